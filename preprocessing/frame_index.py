"""Frames on disk to the JSON index: dataset → label → split → [compression] → video → {label, frames, …}."""

import json
import os
import posixpath
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common.coverage import coverage_path
from common.datasets import LEVELS, SPLITS
from common.errors import DataError
from common.io import atomic_write
from preprocessing.coverage import Census, content, lines
from preprocessing.frame_folders import FrameFolder, find_frames, pictures_in
from preprocessing.layouts import Facts, Group, Layout
from preprocessing.media import some

Index = dict[str, Any]


@dataclass
class IndexReport:
    """What was built.

    Attributes:
        indexes: file name without suffix → the JSON's content.
        remarks: sentences for the user: what is missing, was assumed, or corrected.
        left_out: why → what was left out.
        videos, frames: how many the dataset's own index holds. people: further people of those videos, with entries of their own.
        coverage: file name without suffix → content of its coverage file; nothing when DeepfakeBench's index is reproduced.
        missing: sentences on the label, split and compression of which videos are missing. counted: the same of all.
    """

    indexes: dict[str, Index] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    videos: int = 0
    frames: int = 0
    people: int = 0
    coverage: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)

    def leave(self, why: str, path: str) -> None:
        """Remember what is left out."""
        self.left_out.setdefault(why, []).append(path)

    @property
    def notes(self) -> list[str]:
        """The remarks, and a sentence for everything that was left out."""
        return self.remarks + [f"{path} {why}; left out" for why, paths in self.left_out.items() for path in paths]

    def summary(self) -> list[str]:
        """Return the remarks, and what was left out by its reason: how many, and the first of them."""
        counted = [f"left out: {len(paths)} ({why}): {some(paths)}" for why, paths in self.left_out.items()]
        return self.remarks + counted


def build_index(
    rules: Layout,
    root: Path,
    dataset: str,
    groups: list[Group],
    prefix: str | None = None,
    as_deepfakebench: bool = False,
    may_be_empty: bool = False,
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
        may_be_empty: to have no frames at all is no error.

    Raises:
        DataError: no group has frames, a split file is missing, or a video stands in none.
    """
    report = IndexReport()
    prefix = root.name if prefix is None else prefix.rstrip("/")
    describe = rules.describer(root, dataset, as_deepfakebench)
    index: Index = {}
    for label in rules.labels(dataset):
        _slots(index, label, None)
    census = Census(rules, root, dataset, groups, describe)
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for group in groups:
        found = find_frames(root, group)
        for why, paths in found.left_out.items():
            report.left_out.setdefault(why, []).extend(paths)
        video_of = census.others(group, found)
        if found.missing:
            report.remarks.append(f"{group.folder} has no frames/ yet; run preprocess.py to make them")
            continue
        if found.aligned:
            report.remarks.append(
                f"{group.folder} has no {group.frames}/; its {len(found.videos)} folders of pictures are taken for aligned faces"
            )
        for video in found.videos:
            facts = describe(group, video_of[video.name])
            first = video_of[video.name] == video.name
            if not facts.splits:
                report.leave(facts.why, f"{group.folder}/{video.name}")
                continue
            if not _is_new(seen, root, video, facts.label):
                report.leave("is a link to a video that counts already", video.folder)
                continue
            if not first:  # a name tells who the first person is, and nothing of the others
                facts = replace(facts, target_id=None, source_id=None)
            entry = _entry(root, prefix, group, video, facts, as_deepfakebench)
            _place(index, group, video.name, facts, entry, as_deepfakebench)
            census.indexed(group, facts, video.name, first)
            report.videos += first
            report.people += not first
            report.frames += len(video.files)
        if group.compression and group.label:
            _slots(index, group.label, group.compression)
    if not report.videos and not may_be_empty:
        raise DataError(
            f"{root} holds no frames of {dataset}; run preprocess.py first, or point dataset_root_path at its output"
        )
    rules.finish(index, as_deepfakebench)
    report.indexes[dataset] = {dataset: index}
    report.indexes |= rules.companions(dataset, index, as_deepfakebench)
    if not as_deepfakebench:
        report.remarks += rules.differs
        _add_coverage(report, rules, dataset, census)
    return report


def _add_coverage(report: IndexReport, rules: Layout, dataset: str, census: Census) -> None:
    """Give each index its coverage: the companions' are parts of the whole as their indexes are."""
    census.close()
    report.missing, report.counted = lines(census.tree), lines(census.tree, all_of_them=True)
    trees = {dataset: {dataset: census.tree}} | rules.companions(dataset, census.tree, False)
    for name, index in report.indexes.items():
        (key,) = index
        report.coverage[name] = content(key, trees.get(name, {}).get(key, {}), census.crops)
    report.remarks += census.remarks()
    mixed = {key: value for key, value in (census.crops or {}).items() if isinstance(value, list)}
    if mixed:
        told = "; ".join(f"{key}: {', '.join(map(str, values))}" for key, values in mixed.items())
        report.remarks.append(
            f"the faces were not all cut alike ({told}); preprocess the dataset again with one choice"
        )


def write_indexes(report: IndexReport, folder: Path) -> list[Path]:
    """Write each index as `<name>.json` and its coverage beside it, atomically; return the indexes' files."""
    paths = []
    for name, index in report.indexes.items():
        path = folder / f"{name}.json"
        coverage_path(path).unlink(missing_ok=True)  # of a former index
        atomic_write(path, json.dumps(index, ensure_ascii=False))
        if name in report.coverage:
            atomic_write(coverage_path(path), json.dumps(report.coverage[name], ensure_ascii=False, indent=1))
        paths.append(path)
    return paths


def _is_new(seen: dict[tuple[str, str], tuple[str, str]], root: Path, video: FrameFolder, label: str) -> bool:
    """Tell whether a video's frames are not yet in the index through another path.

    Raises:
        DataError: they are, with another label.
    """
    real = os.path.realpath(root / video.folder), video.files[0]
    known, folder = seen.setdefault(real, (label, video.folder))
    if known != label:
        raise DataError(
            f"{root / video.folder} and {root / folder} are one folder (a link), once {label} and once {known}; remove one"
        )
    return folder == video.folder


def _entry(
    root: Path, prefix: str, group: Group, video: FrameFolder, facts: Facts, as_deepfakebench: bool
) -> dict[str, Any]:
    base = _joined(prefix, video.folder)
    entry: dict[str, Any] = {
        "label": facts.label,
        "frames": [posixpath.join(base, file) for file in video.files],
    }
    if group.masked:
        folder = _mask_folder(root, group, posixpath.basename(video.folder), as_deepfakebench)
        entry["masks"] = [f"{prefix}/{folder}/{file}" for file in pictures_in(root / folder)] if folder else []
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
        others = sorted(LEVELS, key=lambda level: level != "c23")  # c23's first, as DeepfakeBench has them
        candidates = [group.folder] + [f"{base}/{other}" for other in others if other != compression]
    return next((f"{c}/masks/{name}" for c in candidates if (root / c / "masks" / name).is_dir()), None)


def _place(index: Index, group: Group, name: str, facts: Facts, entry: dict, as_deepfakebench: bool) -> None:
    for split in facts.splits:
        slot = _slots(index, facts.label, group.compression)[split]
        slot = slot[group.compression] if group.compression else slot
        # Two folders may hold videos of one name; the reference keeps the last of them only.
        key = name
        while key in slot and not as_deepfakebench:
            key = f"{group.folder.replace('/', '_')}_{key}"
        slot[key] = entry


def _slots(index: Index, label: str, compression: str | None) -> dict[str, Any]:
    slots = index.setdefault(label, {split: {} for split in SPLITS})
    if compression:
        for split in SPLITS:
            slots[split].setdefault(compression, {})
    return slots
