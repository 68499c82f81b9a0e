"""Where frames, masks and landmarks are read from: files, or LMDB databases in the field's form."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.datasets import FFPP
from common.errors import DataError
from training.config.schema import Config

LANDMARKS = 81
# Datasets whose frames lie in FaceForensics++'s database: it, what is derived from it, and Google's DFD, which it hosts.
_SHARED = FFPP | {"DeepFakeDetection"}


class Storage:
    """Reads one dataset. Paths are relative to the RGB root, with forward slashes."""

    def place(self, path: str) -> str:
        """Return words that tell a person where `path` is stored."""
        raise NotImplementedError

    def read_bytes(self, path: str) -> bytes:
        """Return the stored, encoded bytes; DataError naming what is missing and where."""
        raise NotImplementedError

    def read_image(self, path: str) -> np.ndarray:
        """Return `(H, W, 3)` uint8 RGB; DataError when it is missing or no image."""
        return cv2.cvtColor(self._decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def read_mask(self, path: str) -> np.ndarray:
        """Return `(H, W)` uint8 of zeros and ones; 1 is manipulated."""
        mask = self._decode(path, cv2.IMREAD_GRAYSCALE)
        # Written as 0 and 255 by the field's tools, as 0 and 1 by some others.
        return (mask > (127 if mask.max() > 1 else 0)).astype(np.uint8)

    def read_landmark(self, path: str) -> np.ndarray:
        """Return `(81, 2)` float32, x and y in pixels of the stored image: a .npy, or bare uint32 numbers as in LMDB."""
        data = self.read_bytes(path)
        if data.startswith(b"\x93NUMPY"):
            try:
                points = np.load(io.BytesIO(data), allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise DataError(
                    f"{self.place(path)} is not a readable landmark array; run preprocess.py again"
                ) from error
        elif len(data) == LANDMARKS * 2 * 4:
            points = np.frombuffer(data, "<u4").reshape(LANDMARKS, 2)
        else:
            raise DataError(
                f"{self.place(path)} holds {len(data)} bytes, which are no {LANDMARKS} landmarks (.npy, or uint32 numbers); "
                "run preprocess.py again"
            )
        if points.shape != (LANDMARKS, 2) or points.dtype.kind not in "iuf" or not np.isfinite(points).all():
            raise DataError(
                f"{self.place(path)} holds {points.dtype} numbers of shape {points.shape} instead of {LANDMARKS} finite "
                "points; run preprocess.py again"
            )
        return points.astype(np.float32)

    def _decode(self, path: str, flag: int) -> np.ndarray:
        data = np.frombuffer(self.read_bytes(path), np.uint8)
        image = cv2.imdecode(data, flag) if len(data) else None
        if image is None:
            raise DataError(
                f"{self.place(path)} is not a readable image; extract it again with preprocess.py, or set data.on_error=skip"
            )
        return image


class FileStorage(Storage):
    """Files under a root folder."""

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root)

    def place(self, path: str) -> str:
        return str(self.root / path)

    def read_bytes(self, path: str) -> bytes:
        try:
            with open(self.root / path, "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            raise DataError(
                f"no such file: {self.place(path)}; the index names it: check rgb_dir, or run preprocess.py and "
                "rearrange.py again"
            ) from error
        except OSError as error:
            raise DataError(
                f"cannot read {self.place(path)}: {error.strerror}; check the disk and permissions"
            ) from error


class LmdbStorage(Storage):
    """One LMDB database, opened by the process that reads, when it first reads."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def place(self, path: str) -> str:
        return f"the key {path} of the database {self.path}"

    def read_bytes(self, path: str) -> bytes:
        with _environment(self.path).begin() as transaction:
            # Databases written on Windows have backslashes in their keys.
            for key in (path, path.replace("/", "\\")):
                value = transaction.get(key.encode())
                if value is not None:
                    return value
        raise DataError(f"{self.place(path)} is missing; write the database again with to_lmdb.py, or set lmdb=false")


# LMDB allows a process to open a database once, however many loaders read it; so this belongs to the process, not to an
# object: path -> (process that opened it, environment).
_open: dict[Path, tuple[int, Any]] = {}


def _environment(path: Path) -> Any:
    import lmdb

    owner, environment = _open.get(path, (0, None))
    if owner == os.getpid():
        return environment
    if environment is not None:
        # Inherited by a fork: this process's copy is closed, the parent's stays as it is.
        environment.close()
    if not (path / "data.mdb").exists():
        raise DataError(
            f"there is no LMDB database at {path}; make it with preprocessing/to_lmdb.py, or set lmdb=false"
        )
    try:
        environment = lmdb.open(str(path), readonly=True, create=False, lock=False, readahead=False)
    except lmdb.Error as error:
        raise DataError(f"cannot open the LMDB database {path}: {error}; write it again with to_lmdb.py") from error
    _open[path] = (os.getpid(), environment)
    return environment


def open_storage(config: Config, dataset: str) -> Storage:
    """Return the storage of a dataset, as `lmdb`, `rgb_dir` and `lmdb_dir` say.

    FaceForensics++ and its relatives share one database, as with DeepfakeBench; one of the dataset's own wins.
    """
    if not config.lmdb:
        return FileStorage(config.rgb_dir)
    base = dataset.rsplit("_", 1)[0] if dataset.endswith(("_c23", "_c40", "_raw")) else dataset
    own = Path(config.lmdb_dir).resolve() / f"{base}_lmdb"
    if base in _SHARED and not own.exists():
        return LmdbStorage(own.with_name("FaceForensics++_lmdb"))
    return LmdbStorage(own)
