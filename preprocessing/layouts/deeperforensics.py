"""DeeperForensics-1.0 (Jiang et al., CVPR 2020): paid actors' faces on FaceForensics++ videos, eleven perturbation sets.

    manipulated_videos/<perturbation>/NNN_MXXX.mp4 · source_videos/MXXX/…/*.mp4 · lists/splits/{train,val,test}.txt

Splits of the fakes: the lists. A real recording goes where all fakes of its actor are; an actor of several splits, or of
none, is for testing (DeepfakeBench puts the real ones into all three).
Identity: `<target>_<actor>`: a FaceForensics++ person's video with the actor's face; real recordings show their actor.
"""

from pathlib import Path

from common.datasets import identities
from common.errors import ConfigError, DataError
from preprocessing.layouts._base import SPLITS, Describe, Facts, Group, Layout, read_lines

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


class DeeperForensics(Layout):
    """`perturbation` chooses the set of fakes; `all` takes every one (for preprocessing)."""

    names = ("DeeperForensics-1.0",)
    annotations = ("lists/splits/*.txt",)
    mended = ("a real recording is in one split only; DeepfakeBench puts each into train, val and test alike",)

    def labels(self, dataset: str) -> tuple[str, ...]:
        return "DF_real", "DF_fake"

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
        return [Group(f"source_videos/{name}", "DF_real", extra=name) for name in actors] + [
            Group(f"manipulated_videos/{name}", "DF_fake", extra=name) for name in fakes
        ]

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        split_of = {}
        for split in SPLITS:
            for line in read_lines(root / "lists" / "splits" / f"{split}.txt"):
                split_of[line.split(".")[0]] = split
        splits_of_actor: dict[str, set[str]] = {}
        for name, split in split_of.items():
            splits_of_actor.setdefault(name.partition("_")[2], set()).add(split)

        def describe(group: Group, name: str) -> Facts:
            if group.label == "DF_fake":
                if name not in split_of:
                    raise DataError(
                        f"{group.folder}: the video {name} stands in none of the lists in {root / 'lists/splits'}"
                    )
                return Facts("DF_fake", (split_of[name],), *identities(self.names[0], name))
            where = splits_of_actor.get(group.extra, set())
            splits = SPLITS if as_deepfakebench else tuple(where) if len(where) == 1 else ("test",)
            return Facts("DF_real", splits, group.extra, group.extra)

        return describe


LAYOUT = DeeperForensics()
