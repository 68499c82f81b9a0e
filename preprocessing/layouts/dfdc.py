"""Deepfake Detection Challenge (Dolhansky et al., arXiv 2006.07397): 128 154 clips of 960 people.

    train/dfdc_train_part_N/*.mp4 with metadata.json each · test/*.mp4 with labels.csv · validation/*.mp4 with labels.csv

Splits: the folders. Without a validation/ folder the test set validates, as DeepfakeBench means to (its index puts one
nameless video there, and the training videos too).
Identity: people have no numbers; a training fake names its original, whose clip stands for the person.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from common.datasets import labels_of
from common.errors import DataError
from common.io import read_json
from preprocessing.layouts._annotations import agree, by_key, read_kind, read_rows
from preprocessing.layouts._base import Describe, Facts, Group, Layout

_REAL, _FAKE = labels_of("DFDC")
_LABELS = {"real": _REAL, "fake": _FAKE}


class _Clip(NamedTuple):
    kind: str | None  # real, fake, or not told
    original: str | None = None  # the clip that a fake was made from


class DFDC(Layout):
    """Labels come from the annotation beside each folder's videos."""

    names = ("DFDC",)
    annotations = ("test/labels.csv", "validation/labels.csv", "train/*/metadata.json")
    differs = ("validation videos have their names, and training videos are not among them (DeepfakeBench: neither)",)

    def labels(self, dataset: str) -> tuple[str, ...]:
        return _REAL, _FAKE

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        parts = sorted((root / "train").glob("dfdc_train_part_*"), key=lambda path: (len(path.name), path.name))
        folders = [*parts, root / "validation", root / "test"]
        return [Group(path.relative_to(root).as_posix()) for path in folders if path.is_dir()]

    def listed(self, root: Path, dataset: str, groups: list[Group]) -> Iterator[tuple[Group, str]]:
        for group in groups:
            yield from ((group, name) for name in _annotations(root / group.folder))

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        known: dict[str, dict[str, _Clip]] = {}
        validation = (root / "validation").is_dir()

        def describe(group: Group, name: str) -> Facts:
            if group.folder not in known:
                known[group.folder] = _annotations(root / group.folder)
            clip = known[group.folder].get(name, _Clip(None))
            if clip.kind is None:
                return Facts("", (), why="has no label in its folder's annotation")
            label = _LABELS[clip.kind]
            kind = group.folder.partition("/")[0]
            if kind == "train":
                splits: tuple[str, ...] = ("train", "val") if as_deepfakebench else ("train",)
            elif kind == "validation":
                splits = ("val",)
            else:
                splits = ("test",) if validation or as_deepfakebench else ("val", "test")
            target = clip.original or (name if label == _REAL else None)
            return Facts(label, splits, target, target if label == _REAL else None)

        return describe

    def finish(self, index: dict[str, Any], as_deepfakebench: bool) -> None:
        if as_deepfakebench:
            for label in self.labels("DFDC"):
                tests = index[label]["test"]
                if tests:  # the last row of labels.csv, without its name
                    index[label]["val"] |= tests[next(reversed(tests))]


def _annotations(folder: Path) -> dict[str, _Clip]:
    """Return what metadata.json and labels.csv tell of the clips in a folder, by name; either may lack what the other has."""
    clips = _from_metadata(folder / "metadata.json")
    for name, (where, kind) in _from_table(folder / "labels.csv").items():
        known = clips.get(name, _Clip(None))
        if known.kind is not None:
            agree(kind, known.kind, "label", where, f"{folder / 'metadata.json'}")
        clips[name] = known._replace(kind=kind)
    if all(clip.kind is None for clip in clips.values()):
        raise DataError(
            f"{folder} has neither labels.csv nor a metadata.json with labels; they come with the dataset, put them there"
        )
    return clips


def _from_metadata(path: Path) -> dict[str, _Clip]:
    """Return the entries of a metadata.json; that of a test set may tell no labels."""
    if not path.is_file():
        return {}
    content = read_json(path)
    if not (isinstance(content, dict) and all(isinstance(facts, dict) for facts in content.values())):
        raise DataError(f"{path} does not map clips to what is known of them; download it again")
    clips = {}
    for file, facts in content.items():
        said = facts.get("label", facts.get("is_fake"))
        kind = None if said is None else read_kind(said, f"{path}, entry {file}")
        original = facts.get("original")
        clips[Path(file).stem] = _Clip(kind, Path(str(original)).stem if original else None)
    return clips


def _from_table(path: Path) -> dict[str, tuple[str, str]]:
    """Return name → (where it is said, real or fake)."""
    if not path.is_file():
        return {}
    rows = by_key(read_rows(path, "filename", "label"), lambda row: Path(row["filename"].strip()).stem)
    return {name: (where, read_kind(row["label"], where)) for name, (where, row) in rows.items()}


LAYOUT = DFDC()
