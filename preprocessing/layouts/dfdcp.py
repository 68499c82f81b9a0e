"""DFDC Preview (Dolhansky et al., arXiv 1910.08854): 66 actors, two face-swap methods.

    original_videos/<actor>/<clip>.mp4  method_A/<target>/<pair>/<clip>.mp4  method_B/…
    dataset.json: path → {label, set}

Splits: the `set` of dataset.json; validation is the test set, as in DeepfakeBench (there is none of its own).
Identity: the actor numbers in a clip's name, target first.
"""

from pathlib import Path

from common.datasets import identities
from common.errors import DataError
from common.io import read_json
from preprocessing.layouts._base import Describe, Facts, Group, Layout

_FOLDERS = {"original_videos": "DFDCP_Real", "method_A": "DFDCP_FakeA", "method_B": "DFDCP_FakeB"}


class DFDCP(Layout):
    """One label per method."""

    names = ("DFDCP",)
    annotations = ("dataset.json",)

    def labels(self, dataset: str) -> tuple[str, ...]:
        return tuple(_FOLDERS.values())

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        return [Group(folder, label) for folder, label in _FOLDERS.items() if (root / folder).is_dir()]

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        path = root / "dataset.json"
        set_of = {}
        try:
            for clip, facts in read_json(path).items():
                place = Path(clip)
                set_of[place.parts[0], place.stem] = str(facts["set"])
                # Where two clips share a name, preprocessing joins the folders into it.
                set_of[place.parts[0], "_".join(place.parts[1:]).replace(".", "_")] = str(facts["set"])
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"{path} does not map clips to their label and set; download it again") from error

        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            split = set_of.get((group.folder, name))
            if split is None:
                return Facts(group.label, ())
            splits = ("val", "test") if split == "test" else (split,)
            return Facts(group.label, splits, *identities("DFDCP", name))

        return describe


LAYOUT = DFDCP()
