"""FFIW-10K (Zhou et al., CVPR 2021): 10 000 pairs of videos with several people, some faces of which are swapped.

    source/{train,val,test}/*.mp4 (real)  target/{train,val,test}/*.mp4 (fake)

Splits: the folders. Identity: not given.
Several people stand in a frame, and the largest, which is followed, need not be a swapped one: a known limit of one face a video.
"""

from pathlib import Path

from common.datasets import SPLITS, labels_of, names_of
from preprocessing.layouts._base import Describe, Facts, Group, Layout


class FFIW(Layout):
    """One group per folder and split."""

    names = names_of("FFIW-10K")

    def labels(self, dataset: str) -> tuple[str, ...]:
        return labels_of(self.names[0])

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        kinds = dict(zip(("source", "target"), self.labels(dataset), strict=True))
        return [
            Group(f"{kind}/{split}", label, extra=split)
            for kind, label in kinds.items()
            for split in SPLITS
            if (root / kind / split).is_dir()
        ]

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            return Facts(group.label, (group.extra,))

        return describe


LAYOUT = FFIW()
