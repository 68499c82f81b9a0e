"""How many videos a split should have, and what became of those without frames: `<dataset>.coverage.json` beside an index.

    {"dataset": "Mine",
     "crops": {"finder": "hog", "predictor": "shape_predictor_81_face_landmarks.dat", "scale": 1.3, "size": 256, "version": 1},
     "labels": {"Mine_real": {"test": {"expected": 20, "frames": 17, "no_face": ["a"], "unreadable": ["b"],
                                     "to_do": [], "absent": ["c"]}}}}

label → split → [compression] → counts, as in the index. `expected` are the videos that stand on the disk, in the manifest or in
the dataset's own lists, and no fewer than were published; `frames` have an entry in the index. The names are those that are
known: `to_do` lie there and were not preprocessed; `absent` are the others, which lost their frames or are not here at all.
`people`, where videos were cut into several, names the entries beside each video's first one (`a_person2`): they are no videos.
The coverage of an index without such a file, as DeepfakeBench's own are, is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.io import read_json

WHY = ("no_face", "unreadable", "to_do", "absent")
"""Why a video has no frames; `to_do` lies there and was not preprocessed, to a test it is as absent as what is not there."""
Crops = dict[str, Any]


@dataclass(frozen=True)
class Slot:
    """Videos of a label (or class) in a split: how many there should be, how many have frames, why the others have none.

    `people` are further entries of the index, of those who are seen beside the first in the videos with frames.
    """

    expected: int = 0
    frames: int = 0
    no_face: int = 0
    unreadable: int = 0
    people: int = 0

    def __add__(self, other: Slot) -> Slot:
        return Slot(
            self.expected + other.expected,
            self.frames + other.frames,
            self.no_face + other.no_face,
            self.unreadable + other.unreadable,
            self.people + other.people,
        )

    @property
    def absent(self) -> int:
        """How many are neither there nor known to be without a face or unreadable."""
        return self.expected - self.frames - self.no_face - self.unreadable


@dataclass(frozen=True)
class Coverage:
    """Content of one file. `crops` is how its faces were cut, None where no manifest tells."""

    labels: Mapping[str, Any]
    crops: Crops | None = None

    def of(self, split: str, level: str = "") -> dict[str, Slot]:
        """Return label → its videos in a split, of one compression where there are several."""
        found = {}
        for label, splits in self.labels.items():
            content = splits.get(split, {})
            slot = content if "expected" in content else content.get(level, {})
            if slot:
                names = {why: len(slot[why]) for why in WHY[:2]} | {"people": len(slot.get("people", ()))}
                found[label] = Slot(slot["expected"], slot["frames"], **names)
        return found


def coverage_path(index: Path) -> Path:
    """Return where the coverage of an index file stands."""
    return index.with_suffix(".coverage.json")


def is_coverage(path: Path) -> bool:
    """Tell whether a JSON file is no index but the coverage of one."""
    return path.name.endswith(".coverage.json")


def read_coverage(index: Path) -> Coverage | None:
    """Return the coverage of an index file; None where there is none.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    path = coverage_path(index)
    if not path.exists():
        return None
    content = read_json(path)
    try:
        found = Coverage(dict(content["labels"]), None if content.get("crops") is None else dict(content["crops"]))
        for splits in found.labels.values():
            for split, slot in splits.items():
                for level in [""] if "expected" in slot else slot:
                    found.of(split, level)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise DataError(
            f"{path} is no coverage of an index ({type(error).__name__}: {error}); write it again with rearrange.py, or remove it"
        ) from error
    return found


def differing_crops(own: Crops | None, other: Crops | None) -> list[str]:
    """Return `finder yunet (hog)` for each fact in which two ways of cutting faces differ.

    What one of them does not tell is no difference.
    """
    if not own or not other:
        return []
    both = [key for key in own if own[key] is not None and other.get(key) is not None]
    return [f"{key} {_listed(own[key])} ({_listed(other[key])})" for key in both if own[key] != other[key]]


def _listed(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)
