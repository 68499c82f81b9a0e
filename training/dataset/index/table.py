"""One dataset's index as flat arrays: millions of frames without millions of Python objects."""

from __future__ import annotations

import mmap
import re
from array import array
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from common.datasets import SPLITS, family, identities
from common.errors import DataError
from common.io import decode_json_text, json_faults_named
from training.dataset.index.json_stream import leaves

_PEOPLE = ("target_id", "source_id")
_NUMBER = re.compile(r"(\d+)\D*$")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Strings:
    """Many strings in one array of bytes; `strings[i]` decodes one."""

    blob: np.ndarray
    offsets: np.ndarray

    def __getitem__(self, i: int) -> str:
        return self.blob[self.offsets[i] : self.offsets[i + 1]].tobytes().decode()

    def __len__(self) -> int:
        return len(self.offsets) - 1


class _Texts:
    """Grows into `Strings` without keeping the strings."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self.offsets = array("q", [0])

    def extend(self, texts: list[str]) -> None:
        data = "".join(texts).encode()
        lengths = list(map(len, texts))
        if len(data) != sum(lengths):  # not ASCII: bytes and characters differ
            lengths = [len(text.encode()) for text in texts]
        start = self.offsets[-1]
        self.offsets.extend(accumulate(lengths[1:], initial=start + lengths[0]))
        self.blob += data

    def strings(self) -> Strings:
        return Strings(np.frombuffer(bytes(self.blob), np.uint8), np.frombuffer(self.offsets, np.int64))


@dataclass
class Table:
    """All videos of one index file.

    Per video: `name`; `folder` of its frames ('' when they lie in several); `mask_folder` and `mask_suffix` ('' when the
    index lists no masks); `target` and `source`, codes into `people`, -1 unknown; `label`, `group` (the index's key
    above the video, which its own label overrules), `split`, `compression`, codes into `label_names`, `group_names`, SPLITS and
    `compressions` (0 is "no level"); `first`, where its frames begin (one longer than the videos).
    Per frame, in the order of their numbers: `file`; `number` in the source video; `masked`, whether the index lists a mask.
    `notes` are the faults that were met and left out.
    """

    name: Strings
    folder: Strings
    mask_folder: Strings
    mask_suffix: Strings
    people: Strings
    file: Strings
    target: np.ndarray
    source: np.ndarray
    label: np.ndarray
    group: np.ndarray
    split: np.ndarray
    compression: np.ndarray
    first: np.ndarray
    number: np.ndarray
    masked: np.ndarray
    label_names: list[str]
    group_names: list[str]
    compressions: list[str]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.label)


class _Codes(dict[str, int]):
    """Numbers names in the order of their appearance."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


class _Rows:
    """Collects a table's columns, video by video."""

    def __init__(self, dataset: str, where: str):
        self.dataset, self.where, self.family = dataset, where, family(dataset)
        self.text = {key: _Texts() for key in ("name", "folder", "mask_folder", "mask_suffix", "file")}
        self.codes = {key: array("i") for key in ("label", "group", "split", "compression", "target", "source")}
        self.first, self.number, self.masked = array("q", [0]), array("q"), bytearray()
        self.labels, self.groups, self.levels, self.people = _Codes(), _Codes(), _Codes({"": 0}), _Codes()
        self.notes: list[str] = []

    def add(self, label: str, split: str, level: str, video: str, entry: dict[str, Any]) -> None:
        name = "/".join(part for part in (label, split, level, video) if part)
        stated = entry.get("label")
        stated = stated if isinstance(stated, str) else label
        self._check_letters([name, stated, *(str(entry.get(key)) for key in _PEOPLE)], "labels or names", name)
        paths = self._paths(entry, "frames", name)
        if not paths:
            self.notes.append(f"{name} has no frames and is left out")
            return
        folder, files = _common_folder(paths)
        numbers = _numbers(files)
        if any(a > b for a, b in pairwise(numbers)):
            order = sorted(range(len(numbers)), key=numbers.__getitem__)
            files, numbers = [files[i] for i in order], [numbers[i] for i in order]
        numbers = _stored_numbers(numbers)
        masks = self._masks(entry, files, name)
        row = {"name": video, "folder": folder, "mask_folder": masks[0], "mask_suffix": masks[1]}
        for key, value in row.items():
            self.text[key].extend([value])
        self.text["file"].extend(files)
        self.number.extend(numbers)
        self.masked += masks[2]
        self.first.append(len(self.number))
        target, source = self._people(entry, video, folder)
        self.codes["label"].append(self.labels[stated])
        self.codes["group"].append(self.groups[label])
        self.codes["split"].append(SPLITS.index(split))
        self.codes["compression"].append(self.levels[level])
        self.codes["target"].append(target)
        self.codes["source"].append(source)

    def _paths(self, entry: dict[str, Any], key: str, name: str) -> list[str]:
        paths = entry.get(key) or []
        if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
            raise DataError(
                f"{self.where}: `{key}` of {name} must be a list of paths; write the index again with rearrange.py"
            )
        self._check_letters(paths, key, name)
        return [path.replace("\\", "/") for path in paths]

    def _check_letters(self, texts: list[str], what: str, name: str) -> None:
        """Refuse what no file can be called and no text file can hold: NUL, and halves of a surrogate pair."""
        joined = "".join(texts)
        if "\0" in joined or not (joined.isascii() or _SURROGATE.search(joined) is None):
            raise DataError(
                f"{self.where}: {name!a} has a character in its {what} that no name can hold (NUL, or half of a surrogate "
                "pair); write the index again with rearrange.py"
            )

    def _masks(self, entry: dict[str, Any], files: list[str], name: str) -> tuple[str, str, bytes]:
        """Return folder, suffix and, per frame, whether a mask of its name is listed."""
        paths = self._paths(entry, "masks", name)
        if not paths:
            return "", "", bytes(len(files))
        folder, masks = _common_folder(paths)
        if not folder:
            raise DataError(
                f"{self.where}: the masks of {name} lie in several folders; write the index again with rearrange.py"
            )
        stems = {mask.rpartition(".")[0] for mask in masks}
        listed = bytes(file.rpartition("/")[2].rpartition(".")[0] in stems for file in files)
        if not any(listed):
            self.notes.append(f"no mask of {name} is named like one of its frames; its masks are left out")
        return folder, f".{masks[0].rpartition('.')[2]}", listed

    def _people(self, entry: dict[str, Any], video: str, folder: str) -> tuple[int, int]:
        codes = []
        guessed = identities(self.dataset, video, folder)
        for key, guess in zip(_PEOPLE, guessed, strict=True):
            person = entry.get(key)
            person = guess if person in (None, "") else str(person)
            if person is not None and ":" not in person:
                person = f"{self.family}:{person}"
            codes.append(-1 if person is None else self.people[person])
        return codes[0], codes[1]

    def table(self) -> Table:
        people = _Texts()
        if self.people:
            people.extend(list(self.people))
        return Table(
            name=self.text["name"].strings(),
            folder=self.text["folder"].strings(),
            mask_folder=self.text["mask_folder"].strings(),
            mask_suffix=self.text["mask_suffix"].strings(),
            people=people.strings(),
            file=self.text["file"].strings(),
            target=np.array(self.codes["target"], np.int32),
            source=np.array(self.codes["source"], np.int32),
            label=np.array(self.codes["label"], np.int32),
            group=np.array(self.codes["group"], np.int32),
            compression=np.array(self.codes["compression"], np.int32),
            split=np.array(self.codes["split"], np.int8),
            first=np.array(self.first, np.int64),
            number=_narrow(np.frombuffer(self.number, np.int64)),
            masked=np.frombuffer(bytes(self.masked), np.bool_),
            label_names=list(self.labels),
            group_names=list(self.groups),
            compressions=list(self.levels),
            notes=self.notes,
        )


def _narrow(numbers: np.ndarray) -> np.ndarray:
    """Return frame numbers in 32 bits where they fit: timestamps do not."""
    fits = not len(numbers) or numbers.max() <= np.iinfo(np.int32).max
    return numbers.astype(np.int32 if fits else np.int64)


def _common_folder(paths: list[str]) -> tuple[str, list[str]]:
    """Return the folder of all paths and their names in it, or '' and the whole paths when they lie in several."""
    folder = paths[0].rpartition("/")[0]
    prefix = f"{folder}/"
    names = [path[len(prefix) :] for path in paths if path.startswith(prefix)]
    if not folder or len(names) < len(paths) or "/" in "".join(names):
        return "", paths
    return folder, names


def _numbers(files: list[str]) -> list[int]:
    """Return the frame numbers in file names; positions where the names hold none."""
    numbers = []
    for position, file in enumerate(files):
        stem = file.rpartition("/")[2].rpartition(".")[0]
        found = stem if stem.isdecimal() else (match := _NUMBER.search(stem)) and match.group(1)
        # A file's name has at most 255 letters; Python reads no number of thousands of digits.
        numbers.append(int(found) if found and len(found) < 999 else position)
    return numbers


def _stored_numbers(numbers: list[int]) -> list[int]:
    """Return numbers in order as they are kept: positions where one of them is no whole number of 64 bits."""
    return numbers if not numbers or numbers[-1] < 1 << 63 else list(range(len(numbers)))


def build_table(text: str, dataset: str, where: str) -> Table:
    """Return the table of an index's JSON text: dataset → label → split → [compression] → video → entry.

    Args:
        text: the file's content. dataset: its top-level key. where: its name, for messages.

    Raises:
        DataError: the text is damaged, is no index of `dataset`, or holds no video.
    """
    rows, others = _Rows(dataset, where), _Codes()
    with json_faults_named(where):
        for place, value in leaves(text):
            if place and place[0] != dataset:
                others[place[0]]
            else:
                _take(rows, place, value)
    if others and not rows.labels:
        raise DataError(f"{where} is not an index of {dataset} but of {', '.join(others)}; rename the file or its key")
    if not rows.labels:
        raise DataError(f"{where} holds no video with frames; run preprocess.py and rearrange.py again")
    return rows.table()


def _take(rows: _Rows, place: tuple[str, ...], value: Any) -> None:
    """Add what stands at one place of the index, or note why it cannot be used."""
    wrong = DataError(
        f"{rows.where}: {'/'.join(place) or 'the top level'} is not what an index holds there (dataset → label → split → "
        "[compression] → video → frames); write it again with rearrange.py"
    )
    if not isinstance(value, dict):
        raise wrong
    inner = {key: item for key, item in value.items() if isinstance(item, dict)}
    for key, item in inner.items():
        _take(rows, (*place, key), item)
    if "frames" not in value:
        if len(place) in (4, 5) and value.keys() - inner.keys():
            raise DataError(f"{rows.where}: {'/'.join(place)} has no `frames`; write the index again with rearrange.py")
        return
    if len(place) == 3:
        # Public DFDC indexes: the content of one video stands where its name and content should.
        rows.notes.append(f"{'/'.join(place[1:])} holds a video without a name, which is left out")
        return
    if len(place) not in (4, 5):
        raise wrong
    _, label, split, *level, video = place
    if split not in SPLITS:
        rows.notes.append(f"{label} has a split named {split}, which nothing reads")
        return
    rows.add(label, split, level[0] if level else "", video, value)


def read_text(path: Path) -> str:
    """Return an index file's text; DataError when it cannot be read."""
    with json_faults_named(path), open(path, "rb") as file:
        if not path.stat().st_size:
            return ""
        # Mapped, so that the encoded bytes need not stand in memory beside the text.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return decode_json_text(data)
