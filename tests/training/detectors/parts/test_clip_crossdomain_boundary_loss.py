"""W's supervision by forgery masks."""

import numpy as np
import pytest
import torch

from training.detectors.parts.clip_crossdomain.boundary_loss import (
    boundary_band,
    boundary_counts,
    boundary_loss,
    boundary_target,
)


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


def test_with_and_without_weigh_half_at_each_place():
    generator = torch.Generator().manual_seed(0)
    w = torch.rand(4, 1, 8, 8, generator=generator, requires_grad=True)
    band, known = boundary_target(masks()[[0, 0, 1, 1]], torch.tensor([1, 0, 1, 0]), (8, 8))
    p, y, k = (a.reshape(4, 64) for a in (w.detach().numpy(), band.numpy() > 0, known.numpy() > 0))
    each = []
    for place in range(64):
        on, off = p[y[:, place] & k[:, place], place], p[~y[:, place] & k[:, place], place]
        if len(on) and len(off):
            each.append((-np.log(on).mean() - np.log(1 - off).mean()) / 2)
    assert len(each) == 32
    loss = boundary_loss(w, band, known)
    assert loss.item() == pytest.approx(np.mean(each), rel=1e-5)
    doubled = [2 * count for count in boundary_counts(band, known)]
    assert boundary_loss(w, band, known, *doubled).item() == pytest.approx(np.mean(each) / 2, rel=1e-5)
    loss.backward()
    assert (w.grad[2] == 0).all()  # its band is unknown
    assert torch.equal(w.grad[0] != 0, band[0] > 0)  # nobody has a band elsewhere: nothing to compare


def test_knowing_where_faces_have_their_outlines_gains_nothing():
    """W that is the same for every image is best at 1/2, however many of them are fakes with the band there."""
    band, known = boundary_target(masks()[[0, 0, 0, 1]], torch.tensor([1, 1, 1, 0]), (8, 8))
    w = torch.full((1, 1, 8, 8), 0.5, requires_grad=True)
    boundary_loss(w.expand(4, 1, 8, 8), band, known).backward()
    assert w.grad.abs().max() < 1e-6


def test_nothing_known_is_zero():
    w = torch.full((1, 1, 8, 8), 0.3, requires_grad=True)
    band, known = boundary_target(masks()[1:2], torch.tensor([1]), (8, 8))
    loss = boundary_loss(w, band, known)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(w.grad, torch.zeros_like(w))
