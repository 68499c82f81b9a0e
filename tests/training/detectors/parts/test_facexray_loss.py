"""The X-ray and its loss against NumPy."""

import numpy as np
import torch

from training.detectors.parts.facexray import face_xray, xray_loss, xray_of_mask


def test_the_xray_peaks_where_both_images_mix_evenly():
    alpha = torch.tensor([0.0, 0.25, 0.5, 0.9, 1.0])
    np.testing.assert_allclose(face_xray(alpha), [0, 0.75, 1, 0.36, 0], atol=1e-6)


def test_the_loss_is_the_mean_cross_entropy_of_pixels():
    rng = np.random.default_rng(0)
    logit, xray = rng.normal(0, 3, (2, 1, 5, 7)), rng.random((2, 1, 5, 7))
    p = 1 / (1 + np.exp(-logit))
    wanted = -(xray * np.log(p) + (1 - xray) * np.log(1 - p)).mean()
    found = xray_loss(torch.tensor(logit), torch.tensor(xray))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_stored_mask_gives_its_edge():
    mask = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    mask[..., 10:30, 10:30] = 1
    xray = xray_of_mask(mask)[0, 0]
    assert xray[20, 20] == 0  # well inside
    assert xray[2, 2] == 0  # well outside
    assert xray[20, 9] > 0.9
    assert xray[20, 10] > 0.9
    assert not xray_of_mask(torch.zeros_like(mask)).any()
    # A mask that touches the picture's border has no edge there.
    assert not xray_of_mask(torch.ones_like(mask)).any()
