"""Losses of attention maps against NumPy."""

import numpy as np
import torch

from training.detectors.parts.ffd.attention_map_loss import supervised_map_loss, weak_map_loss


def test_the_mask_is_compared_at_the_maps_size_by_area():
    rng = np.random.default_rng(3)
    attention = rng.random((2, 1, 4, 4))
    mask = rng.integers(0, 2, (2, 1, 16, 16))
    small = mask.reshape(2, 4, 4, 4, 4).mean((2, 4))
    wanted = np.abs(attention[:, 0] - small).mean((1, 2))
    found = supervised_map_loss(torch.tensor(attention), torch.tensor(mask, dtype=torch.uint8))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_without_masks_real_maps_want_zero_and_fake_ones_a_peak():
    rng = np.random.default_rng(4)
    attention = rng.random((3, 1, 5, 5))
    found = weak_map_loss(torch.tensor(attention), torch.tensor([0, 1, 1]))
    flat = attention.reshape(3, -1)
    np.testing.assert_allclose(found, [flat[0].mean(), abs(flat[1].max() - 0.75), abs(flat[2].max() - 0.75)], rtol=1e-5)
