"""WildDeepfake (Zi et al., ACM MM 2020, arXiv 2101.01456): sequences of aligned faces from videos of the web.

    real_train/<n>/real/<sequence>/*.png  fake_train/<n>/fake/<sequence>/*.png
    real_test/…  fake_test/…

It is published as archives of faces in these four folders, `<n>.tar.gz` each; unpack every archive beside itself. Between a
folder and its sequences anything may stand. There is nothing to crop: run rearrange.py alone. Written from public descriptions of
the archives, not tried on the real set. It has no validation split, and does not tell identities.
"""

from pathlib import Path

from common.datasets import labels_of
from common.errors import DataError
from preprocessing.layouts._base import Describe, Facts, Group, Layout, SourceVideo

_REAL, _FAKE = labels_of("WildDeepfake")
_FOLDERS = {"real_train": _REAL, "fake_train": _FAKE, "real_test": _REAL, "fake_test": _FAKE}


class WildDeepfake(Layout):
    """Four folders of folders of faces."""

    names = ("WildDeepfake",)

    def labels(self, dataset: str) -> tuple[str, ...]:
        return _REAL, _FAKE

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        return [Group(folder, label, frames="") for folder, label in _FOLDERS.items() if (root / folder).is_dir()]

    def on_disk(self, root: Path, group: Group) -> list[str]:
        return []

    def sources(self, root: Path, group: Group) -> list[SourceVideo]:
        raise DataError(
            f"{root / group.folder}: WildDeepfake is published as aligned faces, there is nothing to crop; run rearrange.py"
        )

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        def describe(group: Group, name: str) -> Facts:
            return Facts(group.label or "", (group.folder.rpartition("_")[2],))

        return describe


LAYOUT = WildDeepfake()
