"""What a dataset's coverage file says of one split, by class; unknown where there is none or it is of another index."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.coverage import Crops, Slot, coverage_path, read_coverage
from training.dataset.labels import class_of

log = logging.getLogger("clipdeepfake.data")
CLASSES = ("real", "fake")


@dataclass(frozen=True)
class Covered:
    """Of a split of one dataset: `classes`, the videos of `real` and `fake` (None: unknown), and how its faces were cut."""

    classes: Mapping[str, Slot] | None = None
    crops: Crops | None = None


def covered(index: Path, split: str, level: str, videos: int, label_dict: Mapping[str, int]) -> Covered:
    """Return what is known of a split besides its videos with frames.

    Args:
        index: the index file. level: the compression. videos: how many entries of the split the index holds at that level.

    Raises:
        DataError: the coverage file is damaged.
    """
    found = read_coverage(index)
    if found is None:
        return Covered()
    slots = found.of(split, level)
    counted = sum(slot.frames + slot.people for slot in slots.values())
    if counted != videos:
        log.warning(
            "%s counts %d videos with frames in %s, the index holds %d: it is of another index and not believed; write both "
            "again with rearrange.py",
            coverage_path(index),
            counted,
            split,
            videos,
        )
        return Covered()
    classes = dict.fromkeys(CLASSES, Slot())
    for label, slot in slots.items():
        number = class_of(label, label_dict)
        if number is None:
            log.warning(
                "%s tells of the label %s, which label_dict does not know; how many videos of %s are missing stays unknown",
                coverage_path(index),
                label,
                split,
            )
            return Covered(None, found.crops)
        classes[CLASSES[number]] += slot
    return Covered(classes, found.crops)
