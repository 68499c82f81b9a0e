"""Nearest faces: against a loop over all pairs, and the file they are kept in."""

import numpy as np
import pytest

from common.errors import DataError
from training.dataset.recipes.nearest import Neighbours, find_neighbours


def _by_hand(points, person, i, count):
    squared = ((points.astype(float) - points[i]) ** 2).sum((1, 2))
    squared[person == person[i]] = np.inf
    order = np.argsort(squared, kind="stable")[:count]
    return order, np.sqrt(squared[order] / points.shape[1])


def test_the_nearest_of_other_people_in_order():
    rng = np.random.default_rng(5)
    points = (rng.normal(0, 5, (1500, 68, 2)) + rng.normal(0, 8, (1500, 1, 2)) + 120).astype(np.float32)
    person = rng.integers(0, 40, 1500)
    rows, distance = find_neighbours(points, person, 12)
    assert (person[rows] != person[:, None]).all()
    for i in (0, 1, 700, 1023, 1024, 1499):
        wanted, far = _by_hand(points, person, i, 12)
        np.testing.assert_array_equal(rows[i], wanted)
        np.testing.assert_allclose(distance[i], far, rtol=1e-4)


def test_fewer_faces_than_wanted_leave_empty_places():
    points = np.arange(5 * 68 * 2, dtype=np.float32).reshape(5, 68, 2)
    rows, distance = find_neighbours(points, np.array([0, 0, 0, 1, 1]), 4)
    np.testing.assert_array_equal(rows[0], [3, 4, -1, -1])
    np.testing.assert_array_equal(rows[4], [2, 1, 0, -1])
    assert np.isinf(distance[0, 2:]).all()
    assert np.isfinite(distance[0, :2]).all()


def test_ten_thousand_faces_are_searched_together():
    rng = np.random.default_rng(0)
    points = rng.normal(128, 20, (10_000, 68, 2)).astype(np.float32)
    rows, _ = find_neighbours(points, np.repeat(np.arange(500), 20), 100)
    assert rows.shape == (10_000, 100)


def test_the_file_comes_back_as_it_was_and_holds_no_pickle(tmp_path):
    rows, distance = np.array([[1], [0]], np.int32), np.array([[2.0], [2.0]], np.float32)
    kept = Neighbours(np.array([b"a/frames/1/000.png", b"a/frames/2/000.png"]), rows, distance)
    kept.save(tmp_path / "near.npz")
    found = Neighbours.load(tmp_path / "near.npz")
    assert found.fits(kept.paths)
    assert not found.fits(kept.paths[::-1])
    assert not found.fits(kept.paths[:1])
    np.testing.assert_array_equal(found.rows, rows)
    with np.load(tmp_path / "near.npz", allow_pickle=False) as content:
        assert all(content[name].dtype != object for name in content)


@pytest.mark.parametrize("content", [b"", b"not a zip at all", b"PK\x03\x04 truncated"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "near.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"near\.npz.*generate_xray_nearest"):
        Neighbours.load(path)


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match=r"generate_xray_nearest\.py"):
        Neighbours.load(tmp_path / "none.npz")
