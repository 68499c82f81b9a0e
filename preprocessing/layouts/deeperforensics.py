"""DeeperForensics-1.0 (Jiang et al., CVPR 2020): paid actors' faces on FaceForensics++ videos, eleven perturbation sets.

    manipulated_videos/<perturbation>/NNN_MXXX.mp4 · source_videos/MXXX/…/*.mp4 · lists/splits/{train,val,test}.txt

Splits of the fakes: the lists. A real recording goes where all fakes of its actor are; an actor of several splits, or of
none, is for testing (DeepfakeBench puts the real ones into all three).
Identity: `<target>_<actor>`: a FaceForensics++ person's video with the actor's face; real recordings show their actor.
"""

from collections.abc import Iterator
from pathlib import Path

from common.datasets import SPLITS, identities, labels_of
from common.errors import ConfigError, DataError
from preprocessing.layouts._annotations import agree
from preprocessing.layouts._base import Describe, Facts, Group, Layout, read_lines

PERTURBATIONS = (
    "end_to_end",
    "end_to_end_level_1",
    "end_to_end_level_2",
    "end_to_end_level_3",
    "end_to_end_level_4",
    "end_to_end_level_5",
    "end_to_end_mix_2_distortions",
    "end_to_end_mix_3_distortions",
    "end_to_end_mix_4_distortions",
    "end_to_end_random_level",
    "reenact_postprocess",
)

_REAL, _FAKE = labels_of("DeeperForensics-1.0")


class DeeperForensics(Layout):
    """`perturbation` chooses the set of fakes; `all` takes every one (for preprocessing)."""

    names = ("DeeperForensics-1.0",)
    annotations = ("lists/splits/*.txt",)
    differs = ("a real recording is in one split only; DeepfakeBench puts each into train, val and test alike",)

    def labels(self, dataset: str) -> tuple[str, ...]:
        return _REAL, _FAKE

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        chosen = perturbation or "end_to_end"
        if chosen not in (*PERTURBATIONS, "all"):
            raise ConfigError(f"perturbation `{chosen}` is unknown; choose all or one of {', '.join(PERTURBATIONS)}")
        base = root / "manipulated_videos"
        fakes = [name for name in PERTURBATIONS if chosen in (name, "all") and (base / name).is_dir()]
        if base.is_dir() and not fakes:
            there = ", ".join(sorted(path.name for path in base.iterdir() if path.is_dir())) or "nothing"
            raise DataError(f"{base} has no set {chosen}; there is {there} (--perturbation)")
        actors = sorted(path.name for path in (root / "source_videos").glob("*") if path.is_dir())
        return [Group(f"source_videos/{name}", _REAL, extra=name) for name in actors] + [
            Group(f"manipulated_videos/{name}", _FAKE, extra=name) for name in fakes
        ]

    def known_folders(self, root: Path) -> list[str]:
        sets = [f"manipulated_videos/{name}" for name in PERTURBATIONS]
        return [*sets, "source_videos", "lists"]

    def listed(self, root: Path, dataset: str, groups: list[Group]) -> Iterator[tuple[Group, str]]:
        names = _read_splits(root)
        for group in groups:
            if group.label == _FAKE:
                yield from ((group, name) for name in names)

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        split_of = _read_splits(root)
        splits_of_actor: dict[str, set[str]] = {}
        for name, split in split_of.items():
            splits_of_actor.setdefault(name.partition("_")[2], set()).add(split)

        def describe(group: Group, name: str) -> Facts:
            if group.label == _REAL:
                where = splits_of_actor.get(group.extra, set())
                splits = SPLITS if as_deepfakebench else tuple(where) if len(where) == 1 else ("test",)
                return Facts(_REAL, splits, group.extra, group.extra)
            if name not in split_of:
                raise DataError(
                    f"{group.folder}: the video {name} stands in none of the lists in {root / 'lists/splits'}; "
                    "add it to one of them, or take its frames away"
                )
            return Facts(_FAKE, (split_of[name],), *identities(self.names[0], name))

        return describe


def _read_splits(root: Path) -> dict[str, str]:
    """Return name of a fake → split."""
    split_of: dict[str, str] = {}
    for split in SPLITS:
        for where, line in read_lines(root / "lists" / "splits" / f"{split}.txt"):
            name = line.split(".")[0]
            agree(split, split_of.setdefault(name, split), "split", f"{where}, {name}", "another list")
    return split_of


LAYOUT = DeeperForensics()
