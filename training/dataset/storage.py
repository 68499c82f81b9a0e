"""Where frames, masks and landmarks are read from: files, or LMDB databases in the field's form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from training.config.schema import Config
from training.dataset.identity import FFPP
from training.errors import DataError

LANDMARKS = 81
# Datasets whose frames lie in FaceForensics++'s database: it, what is derived from it, and Google's DFD, which it hosts.
_SHARED = FFPP | {"DeepFakeDetection"}


class Storage(Protocol):
    """Reads one dataset. Paths are relative to the RGB root, with forward slashes."""

    def read_bytes(self, path: str) -> bytes:
        """Return the stored bytes; DataError naming what is missing and where."""
        ...

    def read_image(self, path: str) -> np.ndarray:
        """Return `(H, W, 3)` uint8 RGB."""
        ...

    def read_mask(self, path: str) -> np.ndarray:
        """Return `(H, W)` uint8 of zeros and ones; 1 is manipulated."""
        ...

    def read_landmark(self, path: str) -> np.ndarray:
        """Return `(81, 2)` float32, x and y in pixels of the stored image."""
        ...


class _Decoding:
    """What both storages share: turning bytes into arrays, with errors that name the place."""

    def read_bytes(self, path: str) -> bytes:
        raise NotImplementedError

    def place(self, path: str) -> str:
        raise NotImplementedError

    def _decode(self, path: str, flag: int) -> np.ndarray:
        data = np.frombuffer(self.read_bytes(path), np.uint8)
        image = cv2.imdecode(data, flag) if len(data) else None
        if image is None:
            raise DataError(
                f"{self.place(path)} is not a readable image; extract it again with preprocess.py, or set data.on_error=skip"
            )
        return image

    def read_image(self, path: str) -> np.ndarray:
        return cv2.cvtColor(self._decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def read_mask(self, path: str) -> np.ndarray:
        return (self._decode(path, cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8)

    def _points(self, points: np.ndarray, path: str) -> np.ndarray:
        if points.ndim != 2 or points.shape[1] != 2 or len(points) not in (68, LANDMARKS):
            raise DataError(
                f"{self.place(path)} holds {points.shape} numbers instead of 81 points; run preprocess.py again"
            )
        return points.astype(np.float32)


class FileStorage(_Decoding):
    """Files under a root folder."""

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root)

    def place(self, path: str) -> str:
        return str(self.root / path)

    def read_bytes(self, path: str) -> bytes:
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError as error:
            raise DataError(
                f"no such file: {self.place(path)}; check rgb_dir, or run preprocess.py and rearrange.py again"
            ) from error
        except OSError as error:
            raise DataError(f"cannot read {self.place(path)}: {error.strerror}") from error

    def read_landmark(self, path: str) -> np.ndarray:
        import io

        try:
            points = np.load(io.BytesIO(self.read_bytes(path)), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(f"{self.place(path)} is not a readable landmark file; run preprocess.py again") from error
        return self._points(points, path)


class LmdbStorage(_Decoding):
    """One LMDB database. Opened in the process that reads, so that it survives a fork."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._environment: Any = None
        self._owner = -1

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_environment": None, "_owner": -1}

    def place(self, path: str) -> str:
        return f"the key {path} of {self.path}"

    def _open(self) -> Any:
        if self._owner != os.getpid():
            import lmdb

            if not (self.path / "data.mdb").exists():
                raise DataError(
                    f"no LMDB database at {self.path}; make it with preprocessing/to_lmdb.py, or set lmdb=false"
                )
            try:
                self._environment = lmdb.open(
                    str(self.path), readonly=True, create=False, lock=False, readahead=False, max_readers=512
                )
            except lmdb.Error as error:
                raise DataError(f"cannot open the LMDB database {self.path}: {error}") from error
            self._owner = os.getpid()
        return self._environment

    def read_bytes(self, path: str) -> bytes:
        with self._open().begin() as transaction:
            # Databases written on Windows have backslashes in their keys.
            for key in (path, path.replace("/", "\\")):
                value = transaction.get(key.encode())
                if value is not None:
                    return value
        raise DataError(f"{self.place(path)} is missing; write the database again with to_lmdb.py, or set lmdb=false")

    def read_landmark(self, path: str) -> np.ndarray:
        data = self.read_bytes(path)
        if data[:6] == b"\x93NUMPY":
            import io

            return self._points(np.load(io.BytesIO(data), allow_pickle=False), path)
        if len(data) != LANDMARKS * 2 * 4:
            raise DataError(
                f"{self.place(path)} holds {len(data)} bytes, not {LANDMARKS * 8}; write it again with to_lmdb.py"
            )
        return self._points(np.frombuffer(data, np.uint32).reshape(LANDMARKS, 2), path)


def open_storage(config: Config, dataset: str) -> Storage:
    """Return the storage of a dataset, as `lmdb`, `rgb_dir` and `lmdb_dir` say."""
    if not config.lmdb:
        return FileStorage(config.rgb_dir)
    base = dataset.rsplit("_", 1)[0] if dataset.endswith(("_c23", "_c40", "_raw")) else dataset
    shared = "FaceForensics++" if base in _SHARED else base
    return LmdbStorage(Path(config.lmdb_dir) / f"{shared}_lmdb")
