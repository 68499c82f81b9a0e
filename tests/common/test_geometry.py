"""The similarity that takes points to points."""

import numpy as np
import pytest
from skimage.transform import SimilarityTransform

from common.geometry import similarity


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_similarity_is_umeyamas():
    rng = np.random.default_rng(3)
    for _ in range(20):
        source, target = rng.normal(size=(2, 5, 2)) * rng.uniform(1, 50)
        other = SimilarityTransform()
        other.estimate(source, target)
        np.testing.assert_allclose(similarity(source, target), other.params[:2], atol=1e-8)


def test_mirrored_points_give_a_rotation_and_not_a_reflection():
    points = np.array([[0.0, 0], [4, 0], [1, 3]])
    matrix = similarity(points, points * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0


def test_coinciding_points_have_no_similarity():
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((5, 2)), np.arange(10.0).reshape(5, 2))


def test_similarity_is_the_least_squares_solution(rng):
    source, target = rng.normal(0, 10, (20, 2)), rng.normal(0, 10, (20, 2))
    # x' = a x − b y + c, y' = b x + a y + d, as a linear system of its own.
    x, y = source.T
    one, zero = np.ones(20), np.zeros(20)
    system = np.concatenate([np.column_stack([x, -y, one, zero]), np.column_stack([y, x, zero, one])])
    a, b, c, d = np.linalg.lstsq(system, target.T.ravel(), rcond=None)[0]
    np.testing.assert_allclose(similarity(source, target), [[a, -b, c], [b, a, d]], atol=1e-9)


def test_similarity_recovers_the_transform_of_points(rng):
    points = rng.normal(0, 30, (68, 2))
    angle, scale, shift = 0.4, 1.7, np.array([5.0, -3.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity(points, points @ turn.T + shift)
    np.testing.assert_allclose(matrix, np.column_stack([turn, shift]), atol=1e-9)
