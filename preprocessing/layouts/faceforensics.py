"""FaceForensics++ (Rössler et al., ICCV 2019): 1000 originals and four manipulations of them, in three compressions.

    original_sequences/youtube/<comp>/videos/NNN.mp4
    manipulated_sequences/<Method>/<comp>/videos/<target>_<source>.mp4, masks in <Method>/masks/videos
    train.json val.json test.json, in the dataset's folder or in splits/: lists of [target, source] pairs

Identity: the name of an original; a manipulation's name says target (whose video) and source (whose face or expression).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.datasets import LEVELS, SPLITS, identities, labels_of
from common.errors import DataError
from common.io import read_json
from preprocessing.layouts._annotations import agree
from preprocessing.layouts._base import Describe, Facts, Group, Layout

REAL, *_FAKES = labels_of("FaceForensics++")
METHODS = dict(zip(("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"), _FAKES, strict=True))
SHIFTER = {"FaceShifter": labels_of("FaceShifter")[0]}
KNOWN = {*METHODS, *SHIFTER, "DeepFakeDetection"}


def sequence_groups(root: Path, reals: dict[str, str], fakes: dict[str, str]) -> list[Group]:
    """Return the groups of the FaceForensics++ tree for some originals and manipulations (folder → label)."""
    groups = []
    for kind, members in (("original_sequences", reals), ("manipulated_sequences", fakes)):
        for name, label in members.items():
            masks = f"{kind}/{name}/masks"
            for compression in LEVELS:
                folder = f"{kind}/{name}/{compression}"
                if (root / folder).is_dir():
                    masked = label not in (*reals.values(), *SHIFTER.values())  # no masks are published of FaceShifter
                    groups.append(
                        Group(folder, label, compression, masks if (root / masks).is_dir() else None, masked=masked)
                    )
    return groups


def unknown_sequences(root: Path) -> list[str]:
    """Return manipulations on disk that no layout knows."""
    base = root / "manipulated_sequences"
    found = sorted(path.name for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
    return [f"manipulated_sequences/{name}" for name in found if name not in KNOWN]


def read_splits(root: Path) -> dict[str, str]:
    """Return video name → split from the official lists; a pair names two originals and both their manipulations.

    Raises:
        DataError: a list is missing or not a list of pairs, or two name one video.
    """
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = next((p for p in (root / f"{split}.json", root / "splits" / f"{split}.json") if p.is_file()), None)
        if path is None:
            raise DataError(
                f"the split file {split}.json is missing in {root} (or its splits/); it comes with the dataset"
            )
        pairs = read_json(path)
        try:
            for target, source in pairs:
                for name in (target, source, f"{target}_{source}", f"{source}_{target}"):
                    agree(split, split_of.setdefault(name, split), "split", f"{path}, {name}", "another split file")
        except (TypeError, ValueError) as error:
            raise DataError(f"{path} is not a list of [target, source] pairs; download it again") from error
    return split_of


class FaceForensics(Layout):
    """Originals from YouTube and the four manipulations; FaceShifter and DeepFakeDetection have their own names."""

    names: tuple[str, ...] = ("FaceForensics++",)
    annotations = ("train.json", "val.json", "test.json", "splits/*.json")
    compressed = True
    fakes = METHODS
    differs: tuple[str, ...] = ("masks: those of a video's own compression come before those of c23",)

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        return sequence_groups(root, {"youtube": REAL}, self.fakes)

    def listed(self, root: Path, dataset: str, groups: list[Group]) -> Iterator[tuple[Group, str]]:
        names = read_splits(root)
        for group in groups:
            yield from ((group, name) for name in names if ("_" in name) == (group.label != REAL))

    def unknown_folders(self, root: Path) -> list[str]:
        return unknown_sequences(root)

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        split_of = read_splits(root)

        def describe(group: Group, name: str) -> Facts:
            if name not in split_of:
                raise DataError(
                    f"{group.folder}: the video {name} stands in none of the split files in {root}; "
                    "add it to one of them, or take its frames away"
                )
            assert group.label is not None
            return Facts(group.label, (split_of[name],), *identities("FaceForensics++", name))

        return describe

    def companions(self, dataset: str, index: dict[str, Any], as_deepfakebench: bool) -> dict[str, dict[str, Any]]:
        """One index per manipulation, and of each its `_c40` form (that compression only, under the plain top key)."""
        if dataset != "FaceForensics++":
            return {}  # another dataset of this shape must not overwrite the field's names
        found = {}
        for label in METHODS.values():
            if label in index and REAL in index:
                found[label] = {label: {REAL: index[REAL], label: index[label]}}
        if not as_deepfakebench:
            whole = {dataset: {dataset: index}, **found}
            found |= {f"{name}_c40": content for name, each in whole.items() if (content := _only(each, "c40"))}
        return found


def _only(content: dict[str, Any], compression: str) -> dict[str, Any] | None:
    """Return an index without the other compressions; None when nothing is left."""
    left = {
        name: {
            label: {split: {compression: levels.get(compression, {})} for split, levels in splits.items()}
            for label, splits in labels.items()
        }
        for name, labels in content.items()
    }
    videos = [
        levels[compression] for labels in left.values() for splits in labels.values() for levels in splits.values()
    ]
    return left if any(videos) else None


LAYOUT = FaceForensics()
