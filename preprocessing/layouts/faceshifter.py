"""FaceShifter (Li et al., CVPR 2020) as FaceForensics++ ships it: a fifth manipulation of the same originals, no masks.

    FaceForensics++/manipulated_sequences/FaceShifter/<comp>/videos/<target>_<source>.mp4, beside the originals

Identity: as in FaceForensics++, `<target>_<source>`.
"""

from pathlib import Path

from preprocessing.layouts._base import Group
from preprocessing.layouts.faceforensics import REAL, SHIFTER, FaceForensics, sequence_groups


class FaceShifter(FaceForensics):
    """Lives in FaceForensics++'s folder and index family."""

    names = ("FaceShifter",)
    differs = ()

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        fakes = sequence_groups(root, {}, SHIFTER)
        return sequence_groups(root, {"youtube": REAL}, {}) + fakes if fakes else []


LAYOUT = FaceShifter()
