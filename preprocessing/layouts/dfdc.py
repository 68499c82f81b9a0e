"""Deepfake Detection Challenge (Dolhansky et al., arXiv 2006.07397): 128 154 clips of 960 people.

    train/dfdc_train_part_N/*.mp4 with metadata.json each · test/*.mp4 with labels.csv · validation/*.mp4 with labels.csv

Splits: the folders. Without a validation/ folder the test set validates, as DeepfakeBench means to (its index puts one
nameless video there, and the training videos too).
Identity: people have no numbers; a training fake names its original, whose clip stands for the person.
"""

import csv
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.io import read_json
from preprocessing.layouts._base import Describe, Facts, Group, Layout

_REAL, _FAKE = "DFDC_Real", "DFDC_Fake"


class DFDC(Layout):
    """Labels come from the annotation beside each folder's videos."""

    names = ("DFDC",)
    annotations = ("test/labels.csv", "validation/labels.csv", "train/*/metadata.json")
    mended = ("validation videos have their names, and training videos are not among them (DeepfakeBench: neither)",)

    def labels(self, dataset: str) -> tuple[str, ...]:
        return _REAL, _FAKE

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        parts = sorted((root / "train").glob("dfdc_train_part_*"), key=lambda path: (len(path.name), path.name))
        folders = [*parts, root / "validation", root / "test"]
        return [Group(path.relative_to(root).as_posix()) for path in folders if path.is_dir()]

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        known: dict[str, dict[str, tuple[str, str | None]]] = {}
        validation = (root / "validation").is_dir()

        def describe(group: Group, name: str) -> Facts:
            if group.folder not in known:
                known[group.folder] = _annotations(root / group.folder)
            label, original = known[group.folder].get(name, (None, None))
            if label is None:
                return Facts(_FAKE, ())
            kind = group.folder.partition("/")[0]
            if kind == "train":
                splits: tuple[str, ...] = ("train", "val") if as_deepfakebench else ("train",)
            elif kind == "validation":
                splits = ("val",)
            else:
                splits = ("test",) if validation or as_deepfakebench else ("val", "test")
            target = original or (name if label == _REAL else None)
            return Facts(label, splits, target, target if label == _REAL else None)

        return describe

    def finish(self, index: dict[str, Any], as_deepfakebench: bool) -> None:
        if as_deepfakebench:
            for label in self.labels("DFDC"):
                tests = index[label]["test"]
                if tests:  # the last row of labels.csv, without its name
                    index[label]["val"] |= tests[next(reversed(tests))]


def _annotations(folder: Path) -> dict[str, tuple[str, str | None]]:
    """Return name → (label, original's name) of a folder from its metadata.json or labels.csv."""
    if (folder / "metadata.json").is_file():
        found = {}
        for file, facts in read_json(folder / "metadata.json").items():
            original = facts.get("original")
            found[Path(file).stem] = (
                _FAKE if str(facts.get("label")).upper() == "FAKE" else _REAL,
                Path(original).stem if original else None,
            )
        return found
    path = folder / "labels.csv"
    if not path.is_file():
        raise DataError(
            f"{folder} has neither labels.csv nor metadata.json; they come with the dataset, put them there"
        )
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            return {
                Path(row["filename"]).stem: (_FAKE if int(row["label"]) else _REAL, None)
                for row in csv.DictReader(file)
            }
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} lacks the columns filename,label (0 real, 1 fake); download it again") from error


LAYOUT = DFDC()
