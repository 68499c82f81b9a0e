"""Alignment against matrices of DeepfakeBench's own script."""

import json
from pathlib import Path

import numpy as np
import pytest

from preprocessing.faces.alignment import FIVE_POINTS, align, similarity_to_template, template, warp_points
from preprocessing.faces.landmarks import forehead

GOLDEN = json.loads((Path(__file__).parent / "data" / "alignment.json").read_text())


def landmarks_with(points) -> np.ndarray:
    landmarks = np.zeros((81, 2))
    landmarks[list(FIVE_POINTS)] = points
    return landmarks


@pytest.mark.parametrize("row", GOLDEN)
def test_matrix_is_the_references(row):
    ours = similarity_to_template(landmarks_with(row["points"]))
    np.testing.assert_allclose(ours, row["affine"], rtol=0, atol=2e-4 * np.abs(row["affine"]).max())


def test_landmarks_of_the_crop_lie_where_the_pixels_went():
    rng = np.random.default_rng(0)
    image = np.zeros((200, 240, 3), np.uint8)
    landmarks = landmarks_with(template(size=90) + np.array([70, 60]) + rng.normal(0, 1, (5, 2)))
    spot = np.array([[120.0, 110.0]])
    image[108:113, 118:123] = 255
    crop, matrix = align(image, landmarks, size=128)
    assert crop.shape == (128, 128, 3)
    rows, columns = np.nonzero(crop[..., 0] > 127)
    np.testing.assert_allclose([columns.mean(), rows.mean()], warp_points(spot, matrix)[0], atol=0.3)


def test_scale_shows_more_around_the_face():
    tight, wide = template(256, 1.0), template(256, 1.3)
    np.testing.assert_allclose(np.ptp(tight, axis=0) / np.ptp(wide, axis=0), 1.3)
    np.testing.assert_allclose((tight - 128) / 1.3 + 128, wide)


def test_extrapolated_forehead_is_above_the_brows_and_turns_with_the_face():
    angle = np.linspace(np.pi, 0, 17)
    points = np.zeros((68, 2), np.float32)
    points[:17] = np.stack([100 + 60 * np.cos(angle), 100 + 90 * np.sin(angle)], 1)
    points[17:27] = np.stack([np.linspace(55, 145, 10), np.full(10, 80)], 1)
    points[27:68] = (100, 130)
    top = forehead(points)
    assert top.shape == (13, 2)
    assert (top[:, 1] < 100).all()
    assert top[:, 1].min() < 60
    # Along the hairline, by the 81-point model's order, x only grows.
    order = np.array([77, 75, 76, 68, 69, 70, 71, 80, 72, 73, 79, 74, 78]) - 68
    assert (np.diff(top[order, 0]) > 0).all()
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(forehead(points @ turn.T.astype(np.float32)), top @ turn.T, atol=1e-3)
