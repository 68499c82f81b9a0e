"""One dataset's index as flat arrays: millions of frames without millions of Python objects, shared between processes.

A table is made once from the JSON index and kept beside it in one binary file, which is memory-mapped afterwards; worker
processes share those pages whichever way they are started.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from training.dataset.identity import family, identities
from training.errors import DataError, ProjectError
from training.io import atomic_path, read_json

log = logging.getLogger("clipdeepfake.data")
FORMAT = 3
_MAGIC = b"CLIPDFIX"
_SPLITS = ("train", "val", "test")
_NUMBER = re.compile(r"(\d+)(?=\D*$)")


@dataclass
class Strings:
    """Many strings in one byte array; `table[i]` decodes one."""

    blob: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: list[str]) -> Strings:
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __getitem__(self, i: int) -> str:
        return self.blob[self.offsets[i] : self.offsets[i + 1]].tobytes().decode()

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass
class Table:
    """All videos of one index file.

    Per video: `name`, `folder` of its frames, `mask_folder` ('' when the index lists no masks), `target`, `source`
    ('' unknown), codes of `label_name`, `split` and `compression` into the lists of that name, and `first`, where its
    frames begin (one longer than the videos). Per frame: `file`, its number in the source video, whether a mask is listed.
    """

    name: Strings
    folder: Strings
    mask_folder: Strings
    target: Strings
    source: Strings
    label: np.ndarray
    split: np.ndarray
    compression: np.ndarray
    first: np.ndarray
    file: Strings
    number: np.ndarray
    masked: np.ndarray
    label_names: list[str]
    compressions: list[str]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.label)


def load_table(path: Path, dataset: str) -> Table:
    """Return the table of an index file, from its binary cache when that is of the same file.

    Raises:
        DataError: the file is missing, truncated, or not an index of `dataset`.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"no index file {path}: {error.strerror}") from error
    key = {"format": FORMAT, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "dataset": dataset}
    cache = path.with_suffix(".idx")
    table = _read_cache(cache, key)
    if table is None:
        table = build_table(read_json(path), dataset, str(path))
        try:
            _write_cache(cache, key, table)
        except ProjectError as error:
            log.warning("%s; the index is read from JSON each time", error)
    for note in table.notes:
        log.warning("%s: %s", path, note)
    return table


class _Rows:
    """Collects a table's columns while the JSON is walked."""

    def __init__(self, dataset: str):
        self.dataset = dataset
        self.family = family(dataset)
        self.text: dict[str, list[str]] = {k: [] for k in ("name", "folder", "mask_folder", "target", "source", "file")}
        self.codes: dict[str, list[int]] = {k: [] for k in ("label", "split", "compression")}
        self.first, self.number, self.masked = [0], [], []
        self.label_names: list[str] = []
        self.compressions: list[str] = [""]
        self.notes: list[str] = []

    def add(self, label: str, split: str, compression: str, video: str, entry: dict[str, Any], where: str) -> None:
        frames = entry.get("frames")
        if not isinstance(frames, list):
            raise DataError(f"{where}: `frames` must be a list of paths; write the index again with rearrange.py")
        if not frames:
            self.notes.append(f"{label}/{split}/{video} has no frames and is left out")
            return
        paths = [str(frame).replace("\\", "/") for frame in frames]
        folder = paths[0].rpartition("/")[0]
        # A folder that differs within a video is rare; its frames then carry the whole path.
        same = all(path.rpartition("/")[0] == folder for path in paths)
        files = [path.rpartition("/")[2] for path in paths] if same else paths
        masks = [str(mask).replace("\\", "/") for mask in entry.get("masks") or []]
        stems = {mask.rpartition("/")[2].rpartition(".")[0] for mask in masks}
        stated = [entry.get(key) for key in ("target_id", "source_id")]
        guessed = identities(self.dataset, video)
        people = [self._person(s if s is not None else g) for s, g in zip(stated, guessed, strict=True)]
        for key, value in zip(
            ("name", "folder", "mask_folder", "target", "source"),
            (video, folder if same else "", masks[0].rpartition("/")[0] if masks else "", *people),
            strict=True,
        ):
            self.text[key].append(value)
        self.text["file"] += files
        for index, file in enumerate(files):
            found = _NUMBER.search(file.rpartition("/")[2].rpartition(".")[0])
            self.number.append(int(found.group(1)) if found else index)
            self.masked.append(file.rpartition("/")[2].rpartition(".")[0] in stems)
        self.first.append(len(self.number))
        self.codes["label"].append(_code(self.label_names, label))
        self.codes["split"].append(_SPLITS.index(split))
        self.codes["compression"].append(_code(self.compressions, compression))

    def _person(self, name: Any) -> str:
        if name is None or name == "":
            return ""
        return str(name) if ":" in str(name) else f"{self.family}:{name}"

    def table(self) -> Table:
        return Table(
            **{key: Strings.of(value) for key, value in self.text.items()},
            label=np.array(self.codes["label"], np.int16),
            split=np.array(self.codes["split"], np.int8),
            compression=np.array(self.codes["compression"], np.int16),
            first=np.array(self.first, np.int64),
            number=np.array(self.number, np.int32),
            masked=np.array(self.masked, np.bool_),
            label_names=self.label_names,
            compressions=self.compressions,
            notes=self.notes,
        )


def _code(names: list[str], name: str) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)


def build_table(content: Any, dataset: str, where: str) -> Table:
    """Return the table of an index file's content: dataset → label → split → [compression] → video → entry."""
    labels = content.get(dataset) if isinstance(content, dict) else None
    if not isinstance(labels, dict):
        there = ", ".join(content) if isinstance(content, dict) else "nothing"
        raise DataError(
            f"{where} is not an index of {dataset}: its top level holds {there}; write it with rearrange.py"
        )
    rows = _Rows(dataset)
    for label, splits in labels.items():
        if not isinstance(splits, dict):
            raise DataError(f"{where}: the label {label} holds no splits; write the index again with rearrange.py")
        for split, videos in splits.items():
            if split not in _SPLITS:
                rows.notes.append(f"{label} has a split named {split}, which nothing reads")
                continue
            _walk(rows, label, split, "", videos, where)
    if not len(rows.codes["label"]):
        raise DataError(f"{where} holds no video with frames; run preprocess.py and rearrange.py again")
    return rows.table()


def _walk(rows: _Rows, label: str, split: str, compression: str, videos: Any, where: str) -> None:
    if not isinstance(videos, dict):
        raise DataError(f"{where}: {label}/{split} holds no videos; write the index again with rearrange.py")
    if isinstance(videos.get("frames"), list):
        # A known fault of public DFDC indexes: one video's content stands here without its name.
        rows.notes.append(f"{label}/{split} holds a video without a name, which is left out")
    for name, entry in videos.items():
        if not isinstance(entry, dict):
            continue
        if "frames" in entry:
            rows.add(label, split, compression, name, entry, where)
        elif not compression:
            _walk(rows, label, split, name, entry, where)
        elif entry:
            raise DataError(f"{where}: {label}/{split}/{compression}/{name} has no `frames`; write the index again")


_ARRAYS = ("label", "split", "compression", "first", "number", "masked")
_TEXTS = ("name", "folder", "mask_folder", "target", "source", "file")
_LISTS = ("label_names", "compressions", "notes")


def _write_cache(path: Path, key: dict[str, Any], table: Table) -> None:
    arrays = {name: getattr(table, name) for name in _ARRAYS}
    for name in _TEXTS:
        arrays[f"{name}.blob"], arrays[f"{name}.offsets"] = getattr(table, name).blob, getattr(table, name).offsets
    places, offset = {}, 0
    for name, array in arrays.items():
        places[name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": offset}
        offset += -(-array.nbytes // 64) * 64
    header = json.dumps({"key": key, "arrays": places, **{name: getattr(table, name) for name in _LISTS}}).encode()
    header += b" " * (-(len(_MAGIC) + 8 + len(header)) % 64)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        for array in arrays.values():
            file.write(memoryview(np.ascontiguousarray(array)).cast("B") if array.size else b"")
            file.write(b"\0" * (-array.nbytes % 64))


def _read_cache(path: Path, key: dict[str, Any]) -> Table | None:
    """Return the cached table, or None when there is none for this very file."""
    try:
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        if header["key"] != key:
            return None
        start = len(_MAGIC) + 8 + size
        arrays = {}
        for name, place in header["arrays"].items():
            dtype, shape = np.dtype(place["dtype"]), tuple(place["shape"])
            if 0 in shape:
                arrays[name] = np.empty(shape, dtype)
            else:
                arrays[name] = np.memmap(path, dtype, "r", start + place["offset"], shape)
    except (OSError, ValueError, KeyError):
        return None
    texts = {name: Strings(arrays[f"{name}.blob"], arrays[f"{name}.offsets"]) for name in _TEXTS}
    return Table(**texts, **{n: arrays[n] for n in _ARRAYS}, **{n: header[n] for n in _LISTS})


assert {f.name for f in fields(Table)} == {*_ARRAYS, *_TEXTS, *_LISTS}


def inside(path: str, root: str) -> str:
    """Return an index path relative to the RGB root; DataError when it would leave that root.

    Index files of the field begin with `./datasets/`, with the root itself, or with the dataset's folder.
    """
    clean = os.path.normpath(path)
    if os.path.isabs(clean):
        base = os.path.abspath(root)
        if os.path.commonpath([clean, base]) != base:
            raise DataError(
                f"the index names {path}, which lies outside rgb_dir ({root}); set rgb_dir to where the frames are"
            )
        return os.path.relpath(clean, base)
    for prefix in (os.path.normpath(root), "datasets/rgb", "datasets"):
        if not os.path.isabs(prefix) and clean.startswith(prefix + "/"):
            clean = clean[len(prefix) + 1 :]
            break
    if clean.startswith(".."):
        raise DataError(f"the index names {path}, which leaves rgb_dir ({root}); mend the index file")
    return clean
