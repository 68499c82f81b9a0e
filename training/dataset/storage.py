"""Where frames, masks and landmarks are read from: files, or LMDB databases in the field's form."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from common.datasets import home, other_names, split_level
from common.errors import DataError
from common.images import MAX_PIXELS, decode_mask, decode_rgb
from training.config.schema import Config
from training.dataset.index.paths import Ground
from training.dataset.lmdb_file import check_whole

if TYPE_CHECKING:
    from training.dataset.index.videos import Index

LANDMARKS = (81, 68)  # dlib's points, with the forehead's and without

_CURE = "extract it again with preprocess.py, or set data.on_error=skip"


class Missing(DataError):
    """Nothing is stored under a path."""


class Storage:
    """Reads one dataset. Paths are relative to the RGB root, with forward slashes."""

    max_pixels = MAX_PIXELS

    def place(self, path: str) -> str:
        """Return words that tell a person where `path` is stored."""
        raise NotImplementedError

    def read_bytes(self, path: str) -> bytes:
        """Return the stored, encoded bytes; DataError naming what is wrong and where (`Missing`: there is nothing)."""
        raise NotImplementedError

    def read_image(self, path: str) -> np.ndarray:
        """Return `(H, W, 3)` uint8 RGB; DataError when it is missing, no image, or larger than `data.max_pixels`."""
        return decode_rgb(self.read_bytes(path), self.place(path), self.max_pixels, _CURE)

    def read_mask(self, path: str) -> np.ndarray:
        """Return `(H, W)` uint8 of zeros and ones, 1 is manipulated, by the rule of `mask_of`; errors as `read_image`."""
        return decode_mask(self.read_bytes(path), self.place(path), self.max_pixels, _CURE)

    def read_landmark(self, path: str) -> np.ndarray:
        """Return `(81, 2)` or `(68, 2)` float32, x and y in pixels of the stored image: a .npy, or bare uint32 as in LMDB."""
        data = self.read_bytes(path)
        if data.startswith(b"\x93NUMPY"):
            try:
                points = np.load(io.BytesIO(data), allow_pickle=False)
            except Exception as error:  # what NumPy raises depends on how its header is damaged
                raise DataError(
                    f"{self.place(path)} is not a readable landmark array; run preprocess.py again"
                ) from error
        elif len(data) in [count * 2 * 4 for count in LANDMARKS]:
            points = np.frombuffer(data, "<u4").reshape(-1, 2)
        else:
            raise DataError(
                f"{self.place(path)} holds {len(data)} bytes, which are neither 81 nor 68 landmarks (.npy, or uint32 numbers); "
                "run preprocess.py again"
            )
        if (
            points.shape not in [(count, 2) for count in LANDMARKS]
            or points.dtype.kind not in "iuf"
            or not np.isfinite(points).all()
        ):
            raise DataError(
                f"{self.place(path)} holds {points.dtype} numbers of shape {points.shape} instead of 81 or 68 finite "
                "points; run preprocess.py again"
            )
        return points.astype(np.float32)


class FileStorage(Storage):
    """Files under a root folder; links among them may lead into the root itself and into `roots` only."""

    def __init__(self, root: str | os.PathLike, roots: Sequence[str] = (), max_pixels: int = MAX_PIXELS):
        self.root, self.max_pixels = Path(root), max_pixels
        self._ground = Ground(root, roots)

    def place(self, path: str) -> str:
        return str(self.root / path)

    def read_bytes(self, path: str) -> bytes:
        try:
            with self._open(path) as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Missing(
                f"no such file: {self.place(path)}; the index names it: check rgb_dir, or run preprocess.py and "
                "rearrange.py again"
            ) from error
        except OSError as error:
            raise DataError(
                f"cannot read {self.place(path)}: {error.strerror}; check the disk and permissions"
            ) from error
        except ValueError as error:  # a NUL, or half of a surrogate pair
            raise DataError(f"no file can be called {self.place(path)!r}; write the index again") from error

    def _open(self, path: str) -> BinaryIO:
        """Open a file where it really lies. Folders are looked at once, and only what is a link itself costs more."""
        folder, _, name = path.rpartition("/")
        try:
            return open(f"{self._ground.real_folder(folder)}/{name}", "rb", opener=_follow_no_link)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        return open(self._ground.resolved(path), "rb")


def _follow_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))


class LmdbStorage(Storage):
    """One LMDB database, opened by the process that reads, when it first reads."""

    def __init__(self, path: str | os.PathLike, max_pixels: int = MAX_PIXELS):
        self.path, self.max_pixels = Path(path), max_pixels

    def place(self, path: str) -> str:
        return f"the key {path} of the database {self.path}"

    def read_bytes(self, path: str) -> bytes:
        import lmdb

        try:
            with _environment(self.path).begin() as transaction:
                # Databases written on Windows have backslashes in their keys.
                for key in (path, path.replace("/", "\\")):
                    value = transaction.get(key.encode())
                    if value is not None:
                        return value
        except (lmdb.Error, UnicodeEncodeError) as error:
            raise DataError(f"cannot read {self.place(path)!r}: {error}; write it again with to_lmdb.py") from error
        raise Missing(f"{self.place(path)} is missing; write the database again with to_lmdb.py, or set lmdb=false")


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
    check_whole(path / "data.mdb")
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
    limit = config.data.max_pixels
    if not config.lmdb:
        return FileStorage(config.rgb_dir, config.data.roots, limit)
    base, _ = split_level(dataset)
    own = Path(config.lmdb_dir).resolve() / f"{base}_lmdb"
    if not own.exists():
        own = own.with_name(f"{home(base)}_lmdb")
        others = (own.with_name(f"{name}_lmdb") for name in other_names(base))
        own = next((place for place in others if place.exists()), own)
    return LmdbStorage(own, limit)


def forgery_mask(storage: Storage, index: Index, video: int, position: int) -> np.ndarray | None:
    """Return a frame's mask `(H, W)` of zeros and ones; None for a real video, and where nobody recorded a fake's mask.

    A fake's mask that the index does not list is looked for beside the frames.

    Raises:
        DataError: the mask cannot be read, or the index lists it and it is not there.
    """
    path = index.mask(video, position)
    if path is None:
        return None
    try:
        return storage.read_mask(path)
    except Missing:
        if index.lists_mask(video, position):
            raise
        return None
