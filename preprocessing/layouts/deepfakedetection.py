"""DeepFakeDetection (Google & Jigsaw, 2019), shipped with FaceForensics++: 28 actors, 363 originals, 3068 face swaps.

    FaceForensics++/original_sequences/actors/<comp>/videos/NN__scene.mp4
    FaceForensics++/manipulated_sequences/DeepFakeDetection/<comp>/videos/TT_SS__scene__CODE.mp4, masks in …/masks/videos

It has no official split: everything is for testing (DeepfakeBench puts every video into all three splits).
Identity: the two-digit actor numbers, target first.
"""

from pathlib import Path

from common.datasets import SPLITS, identities, labels_of
from preprocessing.layouts._base import Describe, Facts, Group, Layout
from preprocessing.layouts.faceforensics import sequence_groups, unknown_sequences


class DeepFakeDetection(Layout):
    """Lives in FaceForensics++'s folder."""

    names = ("DeepFakeDetection",)
    compressed = True
    differs = ("every video is for testing only; DeepfakeBench puts each into train, val and test alike",)

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        real, fake = labels_of(self.names[0])
        return sequence_groups(root, {"actors": real}, {"DeepFakeDetection": fake})

    def unknown_folders(self, root: Path) -> list[str]:
        return unknown_sequences(root)

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            target, source = identities(self.names[0], name)
            return Facts(group.label, SPLITS if as_deepfakebench else ("test",), target, source)

        return describe


LAYOUT = DeepFakeDetection()
