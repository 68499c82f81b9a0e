"""DeepSpeak v1 and v2 (Barrington, Bohacek & Farid, arXiv 2408.05366): webcam recordings, lip-sync, face-swap and avatar fakes.

    real/**/*.mp4  fake/**/*.mp4 · annotations-real.csv  annotations-fake.csv  annotations-split-def.csv

Splits: by identity, from annotations-split-def.csv; a fake belongs to the split of its target, and only if its source is of
the same one (else it is left out, so that no person is both trained and tested on). There is no validation split.
Identity: `identity` of a recording; `identity-target` and `identity-source` of a fake.

Of v2 the authors' card says no other form than v1's; it was not tried on the real set.
"""

from collections.abc import Iterator
from pathlib import Path

from common.datasets import labels_of
from preprocessing.layouts._annotations import by_key, read_rows, read_split
from preprocessing.layouts._base import Describe, Facts, Group, Layout

_FILES = ("annotations-real.csv", "annotations-fake.csv", "annotations-split-def.csv")


class DeepSpeak(Layout):
    """Two folders and three tables."""

    names = ("DSv1", "DSv2")
    annotations = _FILES

    def labels(self, dataset: str) -> tuple[str, ...]:
        return labels_of("DSv2" if dataset.endswith("v2") else "DSv1")

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        folders = dict(zip(("real", "fake"), self.labels(dataset), strict=True))
        return [Group(folder, label) for folder, label in folders.items() if (root / folder).is_dir()]

    def listed(self, root: Path, dataset: str, groups: list[Group]) -> Iterator[tuple[Group, str]]:
        people = _shown(root, *self.labels(dataset))
        for group in groups:
            yield from ((group, name) for name in people[group.label or ""])

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        people = _shown(root, *self.labels(dataset))
        persons = by_key(read_rows(root / _FILES[2], "identity", "split"), lambda row: row["identity"].strip())
        split_of = {person: read_split(row["split"], where) for person, (where, row) in persons.items()}

        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            shown = people[group.label].get(name)
            if shown is None:
                return Facts(group.label, (), why="is not in the annotations")
            splits = {split_of.get(person) for person in shown}
            if None in splits:
                return Facts(group.label, (), *shown, why="shows a person without a split")
            if len(splits) > 1:
                return Facts(group.label, (), *shown, why="shows people of different splits")
            return Facts(group.label, tuple(split for split in splits if split), *shown)

        return describe


def _shown(root: Path, real: str, fake: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Return label → name of a video → (target, source)."""
    return {
        real: _people(root / _FILES[0], "identity", "identity"),
        fake: _people(root / _FILES[1], "identity-target", "identity-source"),
    }


def _people(path: Path, target: str, source: str) -> dict[str, tuple[str, str]]:
    """Return name of a video → (target, source)."""
    rows = by_key(read_rows(path, "video-file", target, source), lambda row: Path(row["video-file"].strip()).stem)
    return {name: (row[target].strip(), row[source].strip()) for name, (_, row) in rows.items()}


LAYOUT = DeepSpeak()
