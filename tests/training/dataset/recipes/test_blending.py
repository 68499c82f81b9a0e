"""Masks, alignment, colour and the blend itself, against their definitions."""

import cv2
import numpy as np
import pytest
from helpers.faces import landmarks, picture

from training.dataset.recipes.blending import blend, deform, hull_mask, match_colour, soften, warp


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_hull_holds_every_landmark_and_nothing_far_from_them(rng):
    points = landmarks(rng, 96)
    mask = hull_mask(points, 96, 96)
    assert set(np.unique(mask)) == {0.0, 1.0}
    x, y = points.round().astype(int).T
    assert mask[y, x].all()
    far_left = int(points[:, 0].min()) - 2
    assert not mask[:, :far_left].any()
    assert 0.8 < mask.sum() / cv2.contourArea(cv2.convexHull(points)) < 1.2


def test_deform_moves_the_mask_no_further_than_asked(rng):
    mask = hull_mask(landmarks(rng, 64), 64, 64)
    moved = deform(mask, rng, 0.05)
    assert (moved != mask).any()
    reach = np.ones((9, 9), np.uint8)  # 0.05 · 64 = 3.2 pixels, and one for interpolation
    assert not ((moved > 0) & (cv2.dilate(mask, reach) == 0)).any()
    assert not ((moved < 1) & (cv2.erode(mask, reach) == 1)).any()
    np.testing.assert_array_equal(deform(mask, rng, 0.0), mask)


def test_soften_stays_in_range_and_keeps_far_pixels(rng):
    mask = hull_mask(landmarks(rng, 64), 64, 64)
    soft = soften(mask, 7)
    assert soft.min() >= 0
    assert soft.max() <= 1
    assert not soft[cv2.dilate(mask, np.ones((7, 7), np.uint8)) == 0].any()


def test_colours_take_the_mean_and_spread_of_the_reference(rng):
    points = landmarks(rng, 64)
    source, reference = picture(rng, points), picture(rng, points)
    weight = hull_mask(points, 64, 64)
    matched = match_colour(source, reference, weight)
    inside = weight > 0
    lab = [cv2.cvtColor(x, cv2.COLOR_RGB2LAB)[inside].astype(float) for x in (matched, reference, source)]
    np.testing.assert_allclose(lab[0].mean(0), lab[1].mean(0), atol=2)
    np.testing.assert_allclose(lab[0].std(0), lab[1].std(0), rtol=0.2, atol=1.5)
    assert np.abs(lab[2].mean(0) - lab[1].mean(0)).max() > 5  # there was something to do


def test_blend_is_the_mixture_inside_and_the_background_outside(rng):
    front, back = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    alpha = soften(hull_mask(np.array([[8, 8], [22, 9], [20, 24], [9, 20]]), 32, 32), 5)
    mixed = blend(front, back, alpha)
    np.testing.assert_array_equal(mixed[alpha == 0], back[alpha == 0])
    np.testing.assert_array_equal(mixed[alpha == 1], front[alpha == 1])
    wanted = alpha[..., None].astype(float) * front + (1 - alpha[..., None].astype(float)) * back
    assert np.abs(mixed - wanted).max() <= 0.5 + 1e-3


def test_warp_moves_landmarks_where_the_matrix_says():
    image = np.zeros((40, 40, 3), np.uint8)
    image[10, 12] = 255
    moved = warp(image, np.array([[1.0, 0, 5], [0, 1, -4]]), 40, 40)
    assert tuple(np.argwhere(moved[..., 0] == 255)[0]) == (6, 17)
