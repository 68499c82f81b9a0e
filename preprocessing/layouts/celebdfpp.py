"""Celeb-DF++ (Li et al., arXiv 2507.18015): Celeb-DF's real videos, and fakes of 22 methods in three scenarios.

    Celeb-real/*.mp4  YouTube-real/*.mp4  Celeb-synthesis/<FaceSwap|FaceReenact|TalkingFace>/<method>/*.mp4
    List_of_testing_videos.txt: lines `<1|0> <folder>/<name>.mp4`

Folders, and the list as the test split, are those of the dataset's own page (github.com/OUC-VAS/Celeb-DF-PP); not tried on the
real set. As with Celeb-DF the list is validation too, and the rest trains. The fakes in `FaceSwap/Celeb-DF` are those of
Celeb-DF-v2 and have its label; the others have one for each method. Identity: as in Celeb-DF, where a name is like those there.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from common.datasets import identities, labels_of
from common.errors import DataError
from preprocessing.layouts._annotations import agree
from preprocessing.layouts._base import Describe, Facts, Group, Layout, read_lines
from preprocessing.media import walk

_LIST = "List_of_testing_videos.txt"
_REALS = ("Celeb-real", "YouTube-real")
_FAKES = "Celeb-synthesis"
_SCENARIOS = ("FaceSwap", "FaceReenact", "TalkingFace")
_FLAGS = {"1": "real", "0": "fake"}  # the list's own, which is the other way round than in the rest of the field
_REAL, *_METHODS = labels_of("Celeb-DF++")
_OLD = labels_of("Celeb-DF-v2")[1]


class CelebDFPP(Layout):
    """Two folders of real videos, one of fakes for each method."""

    names = ("Celeb-DF++",)
    annotations = (_LIST,)

    def labels(self, dataset: str) -> tuple[str, ...]:
        return _REAL, *_METHODS

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        groups = [Group(folder, _REAL) for folder in _REALS if (root / folder).is_dir()]
        for scenario in _SCENARIOS:
            visit = next(walk(root / _FAKES / scenario), None)
            for method in sorted(visit.folders if visit else ()):
                label = _OLD if method == "Celeb-DF" else f"{_REAL.removesuffix('real')}{method}"
                if label not in (_OLD, *_METHODS):
                    known = ", ".join(_METHODS)
                    raise DataError(
                        f"{root / _FAKES / scenario / method}: Celeb-DF++ has no method {method}; its labels are {known}"
                    )
                groups.append(Group(f"{_FAKES}/{scenario}/{method}", label))
        return groups

    def listed(self, root: Path, dataset: str, groups: list[Group]) -> Iterator[tuple[Group, str]]:
        by_folder = {group.folder: group for group in groups}
        for folder, name in sorted(_read_list(root / _LIST)):
            yield by_folder.get(folder, Group(folder, _REAL if folder in _REALS else None)), name

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        tests = _read_list(root / _LIST)

        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            splits = ("val", "test") if (group.folder, name) in tests else ("train",)
            return Facts(group.label, splits, *identities(dataset, name))

        return describe


def _read_list(path: Path) -> set[tuple[str, str]]:
    """Return (folder, name) of the videos of the test list; its flags must say what the folders say."""
    tests = set()
    for where, line in read_lines(path):
        flag, *rest = line.split(None, 1)
        place = PurePosixPath((rest or [""])[0].replace("\\", "/"))
        top = place.parts[0] if len(place.parts) > 1 else ""
        if flag not in _FLAGS or top not in (*_REALS, _FAKES):
            raise DataError(
                f"{where}: `{line}` is not of the form `0 {_FAKES}/FaceSwap/GHOST/id0_id1_0000.mp4` (1 real, 0 fake); correct it"
            )
        agree(_FLAGS[flag], "real" if top in _REALS else "fake", "flag", where, f"the folder {top}")
        tests.add((str(place.parent), place.stem))
    return tests


LAYOUT = CelebDFPP()
