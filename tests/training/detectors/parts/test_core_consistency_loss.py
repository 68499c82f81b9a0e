"""Consistency of two views against NumPy."""

import numpy as np
import torch

from training.detectors.parts.core import cosine_consistency


def test_mean_of_squared_cosine_distances():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 6, 9))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    found = cosine_consistency(torch.tensor(a), torch.tensor(b))
    np.testing.assert_allclose(found, ((1 - cosine) ** 2).mean(), rtol=1e-5)


def test_scale_does_not_matter_and_opposites_cost_four():
    a = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert cosine_consistency(a, 7 * a) < 1e-10
    torch.testing.assert_close(cosine_consistency(a, -a), torch.tensor(4.0))


def test_a_dead_representation_still_has_finite_gradients():
    dead = torch.zeros(2, 4, requires_grad=True)
    cosine_consistency(dead, torch.ones(2, 4)).backward()
    assert torch.isfinite(dead.grad).all()
