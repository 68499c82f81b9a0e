"""The binary cache of an index: one file beside the JSON, memory-mapped, so that all processes share its pages.

Layout: magic, length of the header (8 bytes, little-endian), header (JSON: what it was made from, and where each array
lies), arrays at multiples of 64 bytes. The cache counts only when format, size and modification time of the JSON agree.
"""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DataError, ProjectError
from common.io import atomic_path
from training.dataset.index.table import Strings, Table, build_table, read_text

log = logging.getLogger("clipdeepfake.data")
FORMAT = 6
_MAGIC = b"CLIPDFIX"
_ALIGN = 64
_NOTES = 10
_TEXTS = ("name", "folder", "mask_folder", "mask_suffix", "people", "file")
_ARRAYS = ("target", "source", "label", "group", "split", "compression", "first", "number", "masked")
_LISTS = ("label_names", "group_names", "compressions", "notes")


class CachedTable(Table):
    """A table whose arrays lie in a file; it travels to another process as the file's name."""

    origin: tuple[Path, str]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self.origin


def cache_path(path: Path) -> Path:
    """Return where the cache of an index file lies."""
    return path.with_suffix(".idx")


def load_table(path: Path, dataset: str) -> Table:
    """Return the table of an index file: from its cache when there is one of this very file, else from the JSON.

    Where the cache cannot be written the JSON is read by every process, and a warning says so.

    Raises:
        DataError: the file is missing, damaged, or not an index of `dataset`.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"cannot read the index {path}: {error.strerror}; make it with rearrange.py") from error
    return _load(path, dataset, stat.st_size, stat.st_mtime_ns)


# One run asks for the same index for training, validation and its tests; a mapped table costs nothing to keep.
@lru_cache(maxsize=64)
def _load(path: Path, dataset: str, size: int, mtime_ns: int) -> Table:
    key = _key(dataset, size, mtime_ns)
    table: Table | None = read_cache(path, key)
    if table is None:
        built = build_table(read_text(path), dataset, str(path))
        try:
            write_cache(path, key, built)
        except ProjectError as error:
            log.warning("%s; without its binary cache the index %s is read as JSON by every process", error, path)
        table = read_cache(path, key) or built
    for note in table.notes[:_NOTES]:
        log.warning("%s: %s", path, note)
    if len(table.notes) > _NOTES:
        log.warning("%s: %d more faults like these", path, len(table.notes) - _NOTES)
    return table


def _reopen(path: Path, dataset: str) -> Table:
    """Return the table in another process, where its faults need not be told again."""
    stat = path.stat()
    key = _key(dataset, stat.st_size, stat.st_mtime_ns)
    return read_cache(path, key) or load_table(path, dataset)


def _key(dataset: str, size: int, mtime_ns: int) -> dict[str, Any]:
    return {"format": FORMAT, "size": size, "mtime_ns": mtime_ns, "dataset": dataset}


def write_cache(path: Path, key: dict[str, Any], table: Table) -> None:
    """Write the table of the index file `path`, whole or not at all."""
    arrays = {name: getattr(table, name) for name in _ARRAYS}
    for name in _TEXTS:
        arrays[f"{name}.blob"], arrays[f"{name}.offsets"] = getattr(table, name).blob, getattr(table, name).offsets
    places, offset = {}, 0
    for name, values in arrays.items():
        places[name] = [values.dtype.str, len(values), offset]
        offset += _padded(values.nbytes)
    header = json.dumps({"key": key, "arrays": places, **{name: getattr(table, name) for name in _LISTS}}).encode()
    header = header.ljust(_padded(len(_MAGIC) + 8 + len(header)) - len(_MAGIC) - 8)
    with atomic_path(cache_path(path)) as temporary, open(temporary, "wb") as file:
        file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        for values in arrays.values():
            file.write(np.ascontiguousarray(values).data)
            file.write(b"\0" * (_padded(values.nbytes) - values.nbytes))


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def read_cache(path: Path, key: dict[str, Any]) -> CachedTable | None:
    """Return the cached table of the index file `path`, or None when there is none that was made from this very file."""
    place = cache_path(path)
    try:
        with open(place, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        if header["key"] != key:
            return None
        data = np.memmap(place, np.uint8, "r")
        start = len(_MAGIC) + 8 + size
        arrays = {name: _view(data, start, *where) for name, where in header["arrays"].items()}
        columns: dict[str, Any] = {name: header[name] for name in _LISTS}
        columns |= {name: arrays[name] for name in _ARRAYS}
        columns |= {name: Strings(arrays[f"{name}.blob"], arrays[f"{name}.offsets"]) for name in _TEXTS}
        table = CachedTable(**columns)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the index cache %s cannot be used (%s); it is made again", place, error)
        return None
    table.origin = (path, key["dataset"])
    return table


def _view(data: np.ndarray, start: int, dtype: str, length: int, offset: int) -> np.ndarray:
    size = np.dtype(dtype).itemsize * length
    part = data[start + offset : start + offset + size]
    if len(part) != size:
        raise ValueError("it ends too early")
    # A plain array: the memmap class would follow every slice and slow it down.
    return np.asarray(part).view(np.ndarray).view(dtype)
