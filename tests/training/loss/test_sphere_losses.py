"""Losses on the hypersphere against independent NumPy computations of their definitions."""

import numpy as np
import pytest
import torch

from training.detectors.parts.clip_crossdomain.frequency_consistency_loss import frequency_consistency
from training.loss.arcmargin import ArcMargin, arc_margin
from training.loss.classification import cross_entropy
from training.loss.hypersphere import alignment, uniformity
from training.loss.masked import known_cross_entropy
from training.loss.slerp import slerp, slerp_within_class


def sphere(size=9, dim=5, seed=0):
    x = np.random.default_rng(seed).normal(size=(size, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def angle(a, b):
    return float(torch.acos((a @ b).clamp(-1, 1)))


LABEL = np.array([0, 1, 0, 1, 1, 0, 0, 1, 1])


def test_cross_entropy_with_label_smoothing():
    logits = np.random.default_rng(1).normal(size=(9, 2))
    target = np.eye(2)[LABEL] * 0.9 + 0.05
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    got = cross_entropy(torch.tensor(logits), torch.tensor(LABEL), smoothing=0.1)
    assert got.item() == pytest.approx(-(target * logp).sum(1).mean(), rel=1e-5)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_alignment_is_the_mean_over_pairs_of_one_class(alpha):
    x = sphere()
    pairs = [
        np.linalg.norm(x[i] - x[j]) ** alpha for i in range(9) for j in range(9) if i != j and LABEL[i] == LABEL[j]
    ]
    got = alignment(torch.tensor(x), torch.tensor(LABEL), alpha)
    assert got.item() == pytest.approx(np.mean(pairs), rel=1e-5)


def test_alignment_without_pairs_is_zero_with_zero_gradient():
    x = torch.tensor(sphere(2), requires_grad=True)
    loss = alignment(x, torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_uniformity_is_the_log_mean_potential():
    x = sphere()
    potentials = [np.exp(-2 * np.sum((x[i] - x[j]) ** 2)) for i in range(9) for j in range(i)]
    assert uniformity(torch.tensor(x)).item() == pytest.approx(np.log(np.mean(potentials)), rel=1e-5)
    assert uniformity(torch.tensor(x[:1])).item() == 0
    together = torch.tensor(x[:1]).repeat(4, 1)
    assert uniformity(together).item() == pytest.approx(0, abs=1e-5)


def test_gradients_stay_finite_where_features_coincide():
    x = torch.tensor(sphere(1)).repeat(4, 1).requires_grad_()
    (alignment(x, torch.zeros(4, dtype=torch.long), 1.0) + uniformity(x)).backward()
    assert torch.isfinite(x.grad).all()


def test_arc_margin_adds_the_angle_on_the_label_only():
    cosine = np.cos(np.random.default_rng(2).uniform(0.05, 2.7, size=(9, 2)))
    wanted = cosine.copy()
    for i, label in enumerate(LABEL):
        wanted[i, label] = np.cos(np.arccos(cosine[i, label]) + 0.3)
    got = arc_margin(torch.tensor(cosine), torch.tensor(LABEL), 0.3)
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-6)


def test_arc_margin_keeps_falling_beyond_pi_and_has_finite_gradients():
    angle = torch.linspace(0, torch.pi, 400, dtype=torch.float64)
    cosine = torch.cos(angle)[:, None].repeat(1, 2).requires_grad_()
    moved = arc_margin(cosine, torch.zeros(400, dtype=torch.long), 0.5)
    assert (moved[1:, 0] <= moved[:-1, 0] + 1e-9).all()
    moved.sum().backward()
    assert torch.isfinite(cosine.grad).all()


def test_arc_margin_head_has_no_margin_at_inference():
    torch.manual_seed(0)
    head = ArcMargin(5, scale=16, margin=0.4)
    x = torch.tensor(sphere())
    w = head.weight.detach().numpy()
    wanted = 16 * x.numpy() @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    np.testing.assert_allclose(head(x).detach().numpy(), wanted, atol=1e-5)
    label = torch.tensor(LABEL)
    with_margin = head(x, label)
    assert (with_margin.gather(1, label[:, None]) < head(x).gather(1, label[:, None])).all()
    other = 1 - label
    torch.testing.assert_close(with_margin.gather(1, other[:, None]), head(x).gather(1, other[:, None]))


def test_slerp_follows_the_great_circle():
    a, b = sphere(6, seed=1), sphere(6, seed=2)
    t = np.linspace(0, 1, 6)
    angle = np.arccos((a * b).sum(1))
    wanted = (np.sin((1 - t) * angle) / np.sin(angle))[:, None] * a + (np.sin(t * angle) / np.sin(angle))[:, None] * b
    got = slerp(torch.tensor(a), torch.tensor(b), torch.tensor(t))
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("case", ["equal", "nearly equal", "opposite", "nearly opposite"])
def test_slerp_is_stable_at_both_ends(case):
    a = torch.tensor(sphere(8, seed=4))
    noise = 1e-5 * torch.tensor(sphere(8, seed=5))
    b = {"equal": a, "nearly equal": a + noise, "opposite": -a, "nearly opposite": -a + noise}[case]
    b = (b / b.norm(dim=1, keepdim=True)).requires_grad_()
    out = slerp(a, b, torch.full((8,), 0.3))
    torch.testing.assert_close(out.norm(dim=1), torch.ones(8), atol=1e-6, rtol=0)
    # 0.3 of the way: the angle to a is 0.3 of the whole angle.
    whole = torch.pi if "opposite" in case else 0.0
    angle = torch.acos((a * out).sum(1).clamp(-1, 1))
    torch.testing.assert_close(angle, torch.full((8,), 0.3 * whole), atol=2e-3, rtol=0)
    out.sum().backward()
    assert torch.isfinite(b.grad).all()


def test_slerp_within_class_stays_between_members_of_the_class():
    x, label = torch.tensor(sphere(40, 3)), torch.arange(40) % 2
    new, same = slerp_within_class(x, label, torch.Generator().manual_seed(0))
    assert torch.equal(same, label)
    torch.testing.assert_close(new.norm(dim=1), torch.ones(40), atol=1e-6, rtol=0)
    for i in range(40):
        # On the arc to some member of the class: the two angles add up to the arc.
        partners = x[label == label[i]]
        gaps = [abs(angle(x[i], new[i]) + angle(new[i], p) - angle(x[i], p)) for p in partners]
        assert min(gaps) < 2e-3


def test_consistency_is_one_minus_cosine():
    a, b = np.random.default_rng(0).normal(size=(2, 6, 4))
    wanted = 1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert frequency_consistency(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(wanted.mean(), rel=1e-5)
    assert frequency_consistency(torch.tensor(a), torch.tensor(3 * a)).item() == pytest.approx(0, abs=1e-6)


def test_masked_cross_entropy_leaves_unknown_ones_out():
    logits = np.random.default_rng(3).normal(size=(6, 4))
    label = np.array([2, -1, 0, 3, -1, 1])
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    each = [-logp[i, c] for i, c in enumerate(label) if c >= 0]
    got = known_cross_entropy(torch.tensor(logits), torch.tensor(label))
    assert got.item() == pytest.approx(np.mean(each), rel=1e-5)
    assert known_cross_entropy(torch.tensor(logits), torch.tensor(label), count=8).item() == pytest.approx(
        np.sum(each) / 8, rel=1e-5
    )
    x = torch.tensor(logits, requires_grad=True)
    loss = known_cross_entropy(x, torch.full((6,), -1))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(x.grad, torch.zeros_like(x))
