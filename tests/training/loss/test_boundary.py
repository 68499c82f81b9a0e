"""W's supervision by forgery masks."""

import numpy as np
import pytest
import torch

from training.loss.boundary import boundary_band, boundary_loss, boundary_target


def masks():
    """A centred square, an empty mask, and one that fills the image."""
    mask = torch.zeros(3, 1, 32, 32)
    mask[0, :, 8:24, 8:24] = 1
    mask[2] = 1
    return mask


def test_the_band_is_where_the_mask_ends():
    band = boundary_band(masks(), (8, 8))[:, 0].numpy()
    wanted = np.zeros((8, 8))
    wanted[1:7, 1:7] = 1  # the edges at 8 and 24 touch the cells on both of their sides
    wanted[3:5, 3:5] = 0
    assert np.array_equal(band[0], wanted)
    assert not band[1].any()
    assert not band[2].any()


def test_real_images_have_no_boundary_and_fakes_without_a_mask_say_nothing():
    mask = masks()[[0, 0, 1, 1]]
    band, known = boundary_target(mask, torch.tensor([1, 0, 1, 0]), (8, 8))
    assert band[0].sum() == 32
    assert band[1:].sum() == 0
    assert known.mean(dim=(1, 2, 3)).tolist() == [1, 1, 0, 1]


def test_both_kinds_of_cells_weigh_half():
    generator = torch.Generator().manual_seed(0)
    w = torch.rand(4, 1, 8, 8, generator=generator, requires_grad=True)
    band, known = boundary_target(masks()[[0, 0, 1, 1]], torch.tensor([1, 0, 1, 0]), (8, 8))
    p, y, k = w.detach().numpy(), band.numpy() > 0, known.numpy() > 0
    wanted = (-np.log(p[y & k]).mean() - np.log(1 - p[~y & k]).mean()) / 2
    loss = boundary_loss(w, band, known)
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    assert boundary_loss(w, band, known, on=64.0, off=320.0).item() == pytest.approx(
        (-np.log(p[y & k]).sum() / 64 - np.log(1 - p[~y & k]).sum() / 320) / 2, rel=1e-5
    )
    loss.backward()
    assert (w.grad[2] == 0).all()
    assert (w.grad[0] != 0).all()


def test_nothing_known_is_zero():
    w = torch.full((1, 1, 8, 8), 0.3, requires_grad=True)
    band, known = boundary_target(masks()[1:2], torch.tensor([1]), (8, 8))
    loss = boundary_loss(w, band, known)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(w.grad, torch.zeros_like(w))
