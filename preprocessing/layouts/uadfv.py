"""UADFV (Li, Chang & Lyu, WIFS 2018): 49 videos from the web and one face swap of each.

    real/NNNN.mp4  fake/NNNN_fake.mp4

It has no official split: everything is for testing (DeepfakeBench puts every video into all three splits).
Identity: the number of the original; every fake bears the same actor's face, for which the name gives no number.
"""

from pathlib import Path

from common.datasets import SPLITS, labels_of
from preprocessing.layouts._base import Describe, Facts, Group, Layout

_REAL, _FAKE = labels_of("UADFV")


class UADFV(Layout):
    """Two folders."""

    names = ("UADFV",)
    differs = ("every video is for testing only; DeepfakeBench puts each into train, val and test alike",)

    def labels(self, dataset: str) -> tuple[str, ...]:
        return _REAL, _FAKE

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        folders = {"real": _REAL, "fake": _FAKE}
        return [Group(folder, label) for folder, label in folders.items() if (root / folder).is_dir()]

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            target = name.removesuffix("_fake")
            source = target if group.label == _REAL else None
            return Facts(group.label, SPLITS if as_deepfakebench else ("test",), target, source)

        return describe


LAYOUT = UADFV()
