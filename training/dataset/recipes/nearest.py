"""Which faces stand most like which others: nearest neighbours in landmark space among faces of other people."""

from __future__ import annotations

import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import DataError, ProjectError
from common.io import atomic_path
from training.dataset.index.selection import Index
from training.dataset.storage import Storage

log = logging.getLogger("clipdeepfake.data")
_BLOCK = 1024


@dataclass
class Neighbours:
    """For face i, `rows[i]` are its nearest faces, nearest first; −1 where there are fewer. `paths[i]` is its frame.

    Attributes:
        paths: `(N,)` bytes, frames relative to the RGB root. rows: int32 `(N, K)`. distance: float32 `(N, K)`, root of the
            mean squared landmark distance in pixels, infinite where there is no neighbour.
    """

    paths: np.ndarray
    rows: np.ndarray
    distance: np.ndarray

    def save(self, path: str | os.PathLike) -> None:
        """Write a `.npz`, atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, paths=self.paths, rows=self.rows, distance=self.distance)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Neighbours:
        """Read what `save` wrote; DataError when it is missing or something else."""
        try:
            with np.load(path, allow_pickle=False) as content:
                return cls(content["paths"], content["rows"], content["distance"])
        except FileNotFoundError as error:
            raise DataError(f"no such file: {path}; make it with training/dataset/generate_xray_nearest.py") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} holds no landmark neighbours; make it again with training/dataset/generate_xray_nearest.py"
            ) from error

    def fits(self, paths: np.ndarray) -> bool:
        """Return whether this was made for exactly these frames."""
        return len(paths) == len(self.paths) and bool((paths == self.paths).all())


def find_neighbours(points: np.ndarray, person: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` nearest faces of every face among those of other people, nearest first.

    Exhaustive, a block of faces at a time as one matrix product; space partitioning gains nothing in 162 dimensions.

    Args:
        points: landmarks `(N, P, 2)` in pixels of crops of one size.
        person: `(N,)` integers, equal for faces that must not be paired.
        count: neighbours wanted.

    Returns:
        rows int32 `(N, count)`, −1 where there are fewer; distances float32 `(N, count)`.
    """
    size = len(points)
    flat = points.reshape(size, -1).astype(np.float32)
    # Distances to a common centre first: the product below then loses no digits to the crops' offset.
    flat = flat - flat.mean(axis=0)
    norm = np.einsum("ij,ij->i", flat, flat)
    kept = min(count, size)
    rows = np.full((size, count), -1, np.int32)
    distance = np.full((size, count), np.inf, np.float32)
    for start in range(0, size, _BLOCK):
        block = slice(start, min(start + _BLOCK, size))
        squared = norm[None] - 2 * (flat[block] @ flat.T)  # (b, N); + norm[block] does not change the order
        squared[person[block, None] == person[None]] = np.inf
        near = np.argpartition(squared, kept - 1, axis=1)[:, :kept]
        values = np.take_along_axis(squared, near, axis=1)
        by_value = np.lexsort((near, values), axis=1)
        near, values = (np.take_along_axis(x, by_value, axis=1) for x in (near, values))
        there = np.isfinite(values)
        rows[block, :kept] = np.where(there, near, -1)
        mean = (values + norm[block, None]).clip(0) / points.shape[1]
        distance[block, :kept] = np.where(there, np.sqrt(mean), np.inf)
    return rows, distance


def frame_paths(index: Index, faces: np.ndarray) -> np.ndarray:
    """Return the frames of `(N, 2)` rows (video, position) as bytes."""
    return np.array([index.frame(int(video), int(position))[0].encode() for video, position in faces], np.bytes_)


def people(index: Index, videos: np.ndarray) -> np.ndarray:
    """Return one number per face: equal for the same known person, and for the same video where the person is unknown."""
    known = index.target[videos]
    return np.where(known >= 0, known.astype(np.int64), -1 - videos.astype(np.int64))


def neighbours_of(index: Index, storages: list[Storage], faces: np.ndarray, count: int) -> Neighbours:
    """Read the landmarks of `(N, 2)` rows (video, position) and return everybody's neighbours.

    Raises:
        DataError: landmarks are missing, or all faces are of one person.
    """
    points = np.stack([storages[index.dataset[v]].read_landmark(index.landmark(int(v), int(p)))[:68] for v, p in faces])
    rows, distance = find_neighbours(points, people(index, faces[:, 0]), count)
    if (rows[:, 0] < 0).any():
        raise DataError(
            "faces can be blended only into those of other people, and the real training videos show one person; "
            "add real videos to train_dataset"
        )
    return Neighbours(frame_paths(index, faces), rows, distance)


def cached_neighbours(
    index: Index, storages: list[Storage], faces: np.ndarray, count: int, cache: Path, required: bool
) -> Neighbours:
    """Return the neighbours from `cache` where it was made for these frames, else compute and keep them there.

    With `required` the file was named by the user: it must exist and fit.
    """
    if required or cache.is_file():
        found = Neighbours.load(cache)
        if found.fits(frame_paths(index, faces)) and found.rows.shape[1] >= min(count, len(faces)):
            return found
        if required:
            raise DataError(
                f"{cache} was made for other frames than the real training frames of this run; "
                "make it again with training/dataset/generate_xray_nearest.py, or leave recipe.nearest out"
            )
    log.info("looking for the nearest faces of %d real frames (kept in %s)", len(faces), cache)
    found = neighbours_of(index, storages, faces, count)
    try:
        found.save(cache)
    except ProjectError as error:
        log.warning("%s; the neighbours are computed each time", error)
    return found
