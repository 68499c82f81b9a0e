"""Additive-margin softmax against NumPy."""

import numpy as np
import torch

from training.loss.additive_margin import am_softmax


def test_the_margin_lowers_the_true_class_before_scaling():
    rng = np.random.default_rng(2)
    score, label = rng.uniform(-1, 1, (5, 3)), np.array([0, 2, 1, 1, 0])
    z = 30 * (score - 0.45 * np.eye(3)[label])
    wanted = np.mean(np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(5), label])
    np.testing.assert_allclose(am_softmax(torch.tensor(score), torch.tensor(label)), wanted, rtol=1e-5)


def test_without_margin_and_scale_it_is_cross_entropy():
    score, label = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0])
    plain = torch.nn.functional.cross_entropy(score, label)
    torch.testing.assert_close(am_softmax(score, label, margin=0.0, scale=1.0), plain)
