"""RECCE's losses against plain loops, and where there is nothing to average."""

import numpy as np
import pytest
import torch

from training.detectors.parts.recce.reconstruction_loss import real_cohesion, real_reconstruction

LABEL = np.array([0, 1, 0, 1, 1, 0])


def images(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(6, 3, 5, 4)), rng.normal(size=(6, 3, 5, 4))


def test_reconstruction_is_the_mean_over_real_images():
    image, rebuilt = images()
    found = real_reconstruction(torch.tensor(image), torch.tensor(rebuilt), torch.tensor(LABEL))
    assert float(found) == pytest.approx(np.abs(image - rebuilt)[LABEL == 0].mean(), rel=1e-5)


def test_shares_of_a_batch_add_up_to_the_whole():
    image, rebuilt = (torch.tensor(x) for x in images())
    label = torch.tensor(LABEL)
    whole = real_reconstruction(image, rebuilt, label)
    parts = [real_reconstruction(image[s], rebuilt[s], label[s], count=3) for s in (slice(0, 2), slice(2, 6))]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-5)


def test_fakes_alone_ask_for_nothing():
    image, rebuilt = (torch.tensor(x, requires_grad=True) for x in images())
    loss = real_reconstruction(image, rebuilt, torch.ones(6))
    loss.backward()
    assert loss.item() == 0
    assert not rebuilt.grad.any()


def cosine_distance(a, b):
    return (1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)) / 2


def test_cohesion_is_the_mean_distance_within_minus_between():
    rng = np.random.default_rng(1)
    depths = [rng.normal(size=(6, size)) for size in (3, 7)]
    wanted = 0
    for rows in depths:
        within = [cosine_distance(rows[i], rows[j]) for i in (0, 2, 5) for j in (0, 2, 5) if i != j]
        between = [cosine_distance(rows[i], rows[j]) for i in (0, 2, 5) for j in (1, 3, 4)]
        wanted += 1 + np.mean(within) - np.mean(between)
    found = real_cohesion([torch.tensor(rows) for rows in depths], torch.tensor(LABEL))
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_cohesion_asks_nothing_of_fakes_among_themselves():
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = real_cohesion([rows], torch.ones(6))
    loss.backward()
    assert loss.item() == 0
    assert not rows.grad.any()


def test_cohesion_lies_between_0_and_2():
    label = torch.tensor([0, 0, 1])
    best = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    worst = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    assert float(real_cohesion([best], label)) == pytest.approx(0, abs=1e-6)
    assert 1.4 < float(real_cohesion([worst], label)) <= 2
