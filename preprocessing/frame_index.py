"""Frames on disk to the JSON index: dataset → label → split → [compression] → video → {label, frames, …}."""

import json
import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.io import atomic_write
from preprocessing.layouts import Facts, Group, Layout
from preprocessing.layouts._base import SPLITS

Index = dict[str, Any]


@dataclass
class IndexReport:
    """What was built.

    Attributes:
        indexes: file name without suffix → the JSON's content.
        notes: sentences for the user: what was left out or mended.
        videos, frames: how many the dataset's own index holds.
    """

    indexes: dict[str, Index] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    videos: int = 0
    frames: int = 0


def build_index(
    rules: Layout,
    root: Path,
    dataset: str,
    groups: list[Group],
    prefix: str | None = None,
    as_deepfakebench: bool = False,
) -> IndexReport:
    """Index the frames below `root`.

    Args:
        rules: the dataset's layout.
        root: the dataset's folder.
        dataset: its name, the index's top key.
        groups: from `rules.groups`.
        prefix: what stands before each path inside the dataset's folder; None: the folder's name, so that paths
            are relative to the rgb_dir that contains it.
        as_deepfakebench: reproduce that project's splits, faults included.

    Raises:
        DataError: no group has frames, a split file is missing, or a video stands in none.
    """
    report = IndexReport()
    prefix = root.name if prefix is None else prefix.rstrip("/")
    describe = rules.describer(root, dataset, as_deepfakebench)
    index: Index = {}
    for label in rules.labels(dataset):
        _slots(index, label, None)
    for group in groups:
        base = posixpath.join(group.folder, group.frames)
        names = _folders(root / base)
        if names is None:
            report.notes.append(f"{group.folder} has no frames/ yet; run preprocess.py to make them")
            continue
        for name in names:
            files = _numbered(root / base / name, ".png")
            if not files:
                report.notes.append(f"{base}/{name} holds no frames; the video is left out")
                continue
            facts = describe(group, name)
            if not facts.splits:
                report.notes.append(f"{group.folder}/{name} stands in no split; left out")
                continue
            entry = _entry(root, prefix, group, name, files, facts, as_deepfakebench)
            _place(index, group, name, facts, entry, as_deepfakebench)
            report.videos += 1
            report.frames += len(files)
        if group.compression and group.label:
            _slots(index, group.label, group.compression)
    if not report.videos:
        raise DataError(
            f"{root} holds no frames of {dataset}; run preprocess.py first, or point dataset_root_path at its output"
        )
    rules.finish(index, as_deepfakebench)
    report.indexes[dataset] = {dataset: index}
    report.indexes |= rules.companions(dataset, index, as_deepfakebench)
    if not as_deepfakebench:
        report.notes += rules.mended
    return report


def write_indexes(report: IndexReport, folder: Path) -> list[Path]:
    """Write each index as `<name>.json`, atomically; return the files."""
    paths = []
    for name, content in report.indexes.items():
        path = folder / f"{name}.json"
        atomic_write(path, json.dumps(content, ensure_ascii=False))
        paths.append(path)
    return paths


def _entry(
    root: Path, prefix: str, group: Group, name: str, files: list[str], facts: Facts, as_deepfakebench: bool
) -> dict[str, Any]:
    base = _joined(prefix, group.folder, group.frames, name)
    entry: dict[str, Any] = {
        "label": facts.label,
        "frames": [posixpath.join(base, file) for file in files],
    }
    if group.masked:
        folder = _mask_folder(root, group, name, as_deepfakebench)
        entry["masks"] = [f"{prefix}/{folder}/{file}" for file in _numbered(root / folder, ".png")] if folder else []
    if not as_deepfakebench:
        ids = {"target_id": facts.target_id, "source_id": facts.source_id}
        entry |= {key: value for key, value in ids.items() if value is not None}
    return entry


def _joined(prefix: str, *parts: str) -> str:
    """Join a path; real frames of another dataset (`DF40/../FaceForensics++/…`) are said plainly."""
    path = posixpath.join(prefix, *parts)
    return posixpath.normpath(path) if "/../" in path else path


def _mask_folder(root: Path, group: Group, name: str, as_deepfakebench: bool) -> str | None:
    """Return the folder with a video's masks: of its own compression, else of another (they show the same pixels)."""
    base, _, compression = group.folder.rpartition("/")
    if not group.compression:
        candidates = [group.folder]
    elif as_deepfakebench:
        candidates = [f"{base}/c23"]
    else:
        candidates = [group.folder] + [f"{base}/{other}" for other in ("c23", "raw", "c40") if other != compression]
    return next((f"{c}/masks/{name}" for c in candidates if (root / c / "masks" / name).is_dir()), None)


def _place(index: Index, group: Group, name: str, facts: Facts, entry: dict, as_deepfakebench: bool) -> None:
    for split in facts.splits:
        slot = _slots(index, facts.label, group.compression)[split]
        slot = slot[group.compression] if group.compression else slot
        # Two folders may hold videos of one name; the reference keeps the last of them only.
        taken = name in slot and not as_deepfakebench
        slot[f"{group.folder.replace('/', '_')}_{name}" if taken else name] = entry


def _slots(index: Index, label: str, compression: str | None) -> dict[str, Any]:
    slots = index.setdefault(label, {split: {} for split in SPLITS})
    if compression:
        for split in SPLITS:
            slots[split].setdefault(compression, {})
    return slots


def _folders(folder: Path) -> list[str] | None:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except FileNotFoundError:
        return None


def _numbered(folder: Path, suffix: str) -> list[str]:
    """Return the files of a folder in the order of their frame numbers (1000.png after 999.png)."""
    names = [name for name in os.listdir(folder) if name.endswith(suffix) and not name.startswith(".")]
    return sorted(names, key=lambda name: (len(name), name) if name[: -len(suffix)].isdigit() else (999, name))
