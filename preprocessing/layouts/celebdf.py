"""Celeb-DF v1 and v2 (Li et al., CVPR 2020): interviews of 59 celebrities, further YouTube videos, and face swaps.

    Celeb-real/*.mp4  YouTube-real/*.mp4  Celeb-synthesis/*.mp4 (or in videos/ of each)
    List_of_testing_videos.txt: lines `<1|0> <folder>/<name>.mp4`

The list is the test set, and validation too, as in DeepfakeBench; the rest trains (DeepfakeBench trains on the test videos
as well). Identity: `idA_NNNN` shows A; `idA_idB_NNNN` is A's video with B's face; YouTube-real people have no name.
"""

from collections.abc import Iterator
from pathlib import Path

from common.datasets import identities, labels_of
from common.errors import DataError
from preprocessing.layouts._annotations import agree
from preprocessing.layouts._base import Describe, Facts, Group, Layout, read_lines

_LIST = "List_of_testing_videos.txt"
_FOLDERS = {"Celeb-real": "real", "YouTube-real": "real", "Celeb-synthesis": "fake"}
_FLAGS = {"1": "real", "0": "fake"}  # the list's own, which is the other way round than in the rest of the field


class CelebDF(Layout):
    """Both versions; the label carries the version."""

    names = ("Celeb-DF-v2", "Celeb-DF-v1")
    annotations = (_LIST,)
    differs = (
        "the videos of the official test list are not in train, where DeepfakeBench has them too",
        "Celeb-real's other videos are in train, from where DeepfakeBench loses them",
    )

    def labels(self, dataset: str) -> tuple[str, ...]:
        return labels_of("Celeb-DF-v1" if dataset.endswith("v1") else "Celeb-DF-v2")

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        label = dict(zip(("real", "fake"), self.labels(dataset), strict=True))
        return [Group(folder, label[kind]) for folder, kind in _FOLDERS.items() if (root / folder).is_dir()]

    def listed(self, root: Path, dataset: str, groups: list[Group]) -> Iterator[tuple[Group, str]]:
        label = dict(zip(("real", "fake"), self.labels(dataset), strict=True))
        for folder, name in sorted(_read_list(root / _LIST)):
            yield Group(folder, label[_FOLDERS[folder]]), name

    def unknown_folders(self, root: Path) -> list[str]:
        return sorted(path.name for path in root.iterdir() if path.is_dir() and path.name not in _FOLDERS)

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        tests = _read_list(root / _LIST)

        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            tested = (group.folder, name) in tests
            splits: tuple[str, ...] = ("val", "test") if tested else ("train",)
            if as_deepfakebench:
                # There the second folder of real videos throws the training videos of the first away.
                train = ("train",) if group.folder != "Celeb-real" else ()
                splits = (*train, "val", "test") if tested else train
            return Facts(group.label, splits, *identities(self.names[0], name))

        return describe


def _read_list(path: Path) -> set[tuple[str, str]]:
    """Return (folder, name) of the videos of the test list; its flags must say what the folders say."""
    tests = set()
    for where, line in read_lines(path):
        flag, *rest = line.split(None, 1)
        folder, slash, file = (rest or [""])[0].replace("\\", "/").partition("/")
        if not slash or folder not in _FOLDERS or flag not in _FLAGS:
            raise DataError(
                f"{where}: `{line}` is not of the form `1 Celeb-real/id0_0001.mp4` (1 real, 0 fake); correct it"
            )
        agree(_FLAGS[flag], _FOLDERS[folder], "flag", where, f"the folder {folder}")
        tests.add((folder, Path(file).stem))
    return tests


LAYOUT = CelebDF()
