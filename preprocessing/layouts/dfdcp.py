"""DFDC Preview (Dolhansky et al., arXiv 1910.08854): 66 actors, two face-swap methods.

    original_videos/<actor>/<clip>.mp4  method_A/<target>/<pair>/<clip>.mp4  method_B/…
    dataset.json: path → {label, set}

Splits: the `set` of dataset.json; validation is the test set, as in DeepfakeBench (there is none of its own).
Identity: the actor numbers in a clip's name, target first.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from common.datasets import identities, labels_of
from common.errors import DataError
from common.io import read_json
from preprocessing.layouts._annotations import agree, read_kind, read_split
from preprocessing.layouts._base import Describe, Facts, Group, Layout, unique_names

_FOLDERS = dict(zip(("original_videos", "method_A", "method_B"), labels_of("DFDCP"), strict=True))
_KINDS = {"original_videos": "real", "method_A": "fake", "method_B": "fake"}


class DFDCP(Layout):
    """One label per method."""

    names = ("DFDCP",)
    annotations = ("dataset.json",)

    def labels(self, dataset: str) -> tuple[str, ...]:
        return tuple(_FOLDERS.values())

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        return [Group(folder, label) for folder, label in _FOLDERS.items() if (root / folder).is_dir()]

    def listed(self, root: Path, dataset: str, groups: list[Group]) -> Iterator[tuple[Group, str]]:
        clips: dict[str, list[Path]] = {}
        for clip in read_json(root / "dataset.json"):
            folder, _, inner = clip.replace("\\", "/").partition("/")
            if folder in _FOLDERS and inner:
                clips.setdefault(folder, []).append(Path(inner))
        for folder, inside in clips.items():
            yield from ((Group(folder, _FOLDERS[folder]), name) for name in unique_names(inside))

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        set_of = _read_sets(root / "dataset.json")

        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            split = set_of.get((group.folder, name))
            if split is None:
                return Facts(group.label, (), why="is not in dataset.json")
            splits = ("val", "test") if split == "test" else (split,)
            return Facts(group.label, splits, *identities("DFDCP", name))

        return describe


def _read_sets(path: Path) -> dict[tuple[str, str], str]:
    """Return (folder, name) → split; a clip's label must say what its folder says."""
    content = read_json(path)
    if not (isinstance(content, dict) and all(isinstance(facts, dict) for facts in content.values())):
        raise DataError(f"{path} does not map clips to their label and set; download it again")
    set_of = {}
    for clip, facts in content.items():
        where, place = f"{path}, entry {clip}", PurePosixPath(clip.replace("\\", "/"))
        if len(place.parts) < 2 or place.parts[0] not in _FOLDERS:
            continue  # no group reads it
        if "set" not in facts:
            raise DataError(f"{where}: it tells no `set` (train or test); download the file again")
        split = read_split(facts["set"], where)
        if facts.get("label") is not None:
            agree(
                read_kind(facts["label"], where), _KINDS[place.parts[0]], "label", where, f"the folder {place.parts[0]}"
            )
        set_of[place.parts[0], place.stem] = split
        # Where two clips share a name, preprocessing joins the folders into it.
        set_of[place.parts[0], "_".join(place.parts[1:]).replace(".", "_")] = split
    return set_of


LAYOUT = DFDCP()
