"""UCF's contrastive regularisation against plain loops, and the order that its pairs are drawn in."""

import numpy as np
import pytest
import torch

from training.detectors.parts.ucf.contrastive_loss import paired_contrast, shuffle_within, triplet_hinge


def test_the_order_stays_within_groups_and_is_a_permutation():
    torch.manual_seed(0)
    group = torch.tensor([0, 0, 0, 0, 2, 1, 2, 1, 2])
    for _ in range(20):
        order = shuffle_within(group)
        assert torch.equal(group[order], group)
        assert sorted(order.tolist()) == list(range(9))


def test_every_row_of_the_group_comes_to_every_place():
    torch.manual_seed(0)
    group = torch.tensor([1, 0, 1, 1])
    orders = torch.stack([shuffle_within(group) for _ in range(900)])
    for place in (0, 2, 3):
        seen = [(orders[:, place] == row).float().mean().item() for row in (0, 2, 3)]
        assert seen == pytest.approx([1 / 3] * 3, abs=0.06)


def test_the_hinge_is_the_mean_over_triplets():
    rng = np.random.default_rng(0)
    a, p, n = rng.normal(size=(3, 8, 5))
    near, far = (np.sqrt(((a - other) ** 2).sum(1)) for other in (p, n))
    found = triplet_hinge(*(torch.tensor(x) for x in (a, p, n)), margin=0.5)
    wanted = np.maximum(0, near - far + 0.5)
    assert 0 < (wanted == 0).mean() < 1
    assert float(found) == pytest.approx(wanted.mean(), rel=1e-4)


def test_pairs_are_of_the_group_and_of_the_other_half():
    rng = np.random.default_rng(1)
    feature, group = rng.normal(size=(8, 3)), torch.tensor([0, 0, 0, 0, 1, 2, 2, 1])
    torch.manual_seed(3)
    peer = feature[shuffle_within(group).numpy()]
    wanted = 0.0
    for own, other in ((slice(0, 4), slice(4, 8)), (slice(4, 8), slice(0, 4))):
        near = np.sqrt(((feature[own] - peer[own]) ** 2).sum(1))
        far = np.sqrt(((feature[own] - peer[other]) ** 2).sum(1))
        wanted += np.maximum(0, near - far + 3).mean()
    torch.manual_seed(3)
    assert float(paired_contrast(torch.tensor(feature), group, margin=3.0)) == pytest.approx(wanted, rel=1e-4)
