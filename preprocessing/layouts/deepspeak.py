"""DeepSpeak v1 (Barrington, Bohacek & Farid, arXiv 2408.05366): webcam recordings, lip-sync and face-swap fakes.

    real/**/*.mp4  fake/**/*.mp4 · annotations-real.csv  annotations-fake.csv  annotations-split-def.csv

Splits: by identity, from annotations-split-def.csv; a fake belongs to the split of its target, and only if its source is of
the same one (else it is left out, so that no person is both trained and tested on). There is no validation split.
Identity: `identity` of a recording; `identity-target` and `identity-source` of a fake.
"""

import csv
from pathlib import Path

from common.errors import DataError
from preprocessing.layouts._base import Describe, Facts, Group, Layout

_REAL, _FAKE = "DSv1_Real", "DSv1_Fake"
_FILES = ("annotations-real.csv", "annotations-fake.csv", "annotations-split-def.csv")


class DeepSpeak(Layout):
    """Two folders and three tables."""

    names = ("DSv1",)
    annotations = _FILES

    def labels(self, dataset: str) -> tuple[str, ...]:
        return _REAL, _FAKE

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        folders = {"real": _REAL, "fake": _FAKE}
        return [Group(folder, label) for folder, label in folders.items() if (root / folder).is_dir()]

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        reals = {Path(row["video-file"]).stem: row for row in _table(root / _FILES[0], "video-file", "identity")}
        fakes = {
            Path(row["video-file"]).stem: row
            for row in _table(root / _FILES[1], "video-file", "identity-source", "identity-target")
        }
        split_of = {row["identity"]: row["split"] for row in _table(root / _FILES[2], "identity", "split")}

        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            row = (reals if group.label == _REAL else fakes).get(name)
            if row is None:
                return Facts(group.label, ())
            target = row["identity"] if group.label == _REAL else row["identity-target"]
            source = row["identity"] if group.label == _REAL else row["identity-source"]
            splits = {split_of.get(person) for person in (target, source)}
            split = splits.pop() if len(splits) == 1 else None
            return Facts(group.label, (split,) if split else (), target, source)

        return describe


def _table(path: Path, *columns: str) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"the annotation file {path} is missing; it comes with the dataset, put it there")
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = set(columns) - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path} lacks the column `{min(missing)}`; download it again")
        return list(reader)


LAYOUT = DeepSpeak()
