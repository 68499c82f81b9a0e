"""DF40 (Yan et al., NeurIPS 2024): forty manipulations, most of them of FaceForensics++ and Celeb-DF, published as aligned faces.

    DF40/<method>/ff/[frames/]<video>/*.png       of FaceForensics++'s test videos; DF40_train/<method>/… of its training videos
    DF40/<method>/cdf/[frames/|<any>/]<video>/*   of Celeb-DF-v2
    DF40/<method>/{fake,real}/…                   methods with real faces of their own (MidJourney, heygen, stargan, …)

Each method and domain is a dataset of its own, as in `rearrange.py --dataset_name simswap_ff --layout DF40`: `<method>_ff`,
`<method>_cdf`, or `<method>` where it has real faces of its own; else they come from FaceForensics++/ (c23) and Celeb-DF-v2/
beside DF40/. Labels are the published indexes': `<method>_Real` and `<method>_Fake`.
Pictures that lie in no folder of a video (e4e's `inversions/`, MidJourney) are a video each.
Splits: FaceForensics++'s lists (`ff`); everything is for testing (the others). Identity: as in the domain.
"""

from pathlib import Path

from common.datasets import UNKNOWN, identities, method_labels
from common.errors import ConfigError, DataError
from preprocessing.layouts._base import Describe, Facts, Group, Layout, SourceVideo
from preprocessing.layouts.faceforensics import read_splits
from preprocessing.media import walk

_REALS = {
    "ff": ("../FaceForensics++/original_sequences/youtube/c23",),
    "cdf": ("../Celeb-DF-v2/Celeb-real", "../Celeb-DF-v2/YouTube-real"),
}
_KINDS = ("real", "fake")
_FLAT = (
    "frames",
    "inversions",
    "fake",
    "real",
    "images",
    "faces",
    "Celeb-real",
    "YouTube-real",
    "Youtube-real",
    "Fake_from_*",
)
"""Folders that hold pictures of many videos, or folders of videos, but are none themselves."""
_FOLDERS = {"whichisreal": "whichfaceisreal", "collaborative_diffusion": "collabdiff"}
"""Datasets whose folder is called otherwise, in small letters."""


class DF40(Layout):
    """For indexing only: there is nothing to crop."""

    names = ("DF40",)

    def folder(self, dataset: str) -> str:
        return "DF40"

    def database(self, dataset: str) -> str:
        return dataset

    def recognises(self, root: Path) -> bool:
        return any((path / part).is_dir() for path in root.iterdir() if path.is_dir() for part in (*_REALS, *_KINDS))

    def labels(self, dataset: str) -> tuple[str, ...]:
        return tuple(_label(dataset, kind) for kind in _KINDS)

    def unknown_folders(self, root: Path) -> list[str]:
        return []  # the other methods

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        method, domain = _parts(dataset)
        return self._with_own_reals(root, dataset) if domain is None else self._of_domain(root, dataset, method, domain)

    def _of_domain(self, root: Path, dataset: str, method: str, domain: str) -> list[Group]:
        places = [path for folder in _method_folders(root, method) if (path := _child(root, folder, domain))]
        if domain == "ff" and (root.parent / "DF40_train").is_dir():
            training = _method_folders(root, method, "../DF40_train")
            places += [_child(root, folder, "ff") or folder for folder in training]
        if not places:
            raise DataError(f"{root} has no folder {method}/{domain}; unpack that part of DF40 there")
        reals = [Group(path, _label(dataset, "real"), extra=domain) for path in _REALS[domain]]
        return reals + [self._group(root, path, _label(dataset, "fake"), domain) for path in places]

    def _with_own_reals(self, root: Path, dataset: str) -> list[Group]:
        folders = _method_folders(root, dataset)
        for folder in folders + [path for each in folders for path in _children(root, each)]:
            found = {kind: _child(root, folder, kind) for kind in _KINDS}
            if any(found.values()):
                return [self._group(root, path, _label(dataset, kind), "") for kind, path in found.items() if path]
        domains = [domain for folder in folders for domain in _REALS if _child(root, folder, domain)]
        if domains:
            known = " or ".join(f"{dataset}_{domain}" for domain in dict.fromkeys(domains))
            raise ConfigError(
                f"dataset_name `{dataset}`: it has no real faces of its own; with --layout DF40 it is {known}"
            )
        raise DataError(f"{root} has no folder {dataset}/{{fake,real}}; unpack that part of DF40 there")

    def _group(self, root: Path, path: str, label: str, domain: str) -> Group:
        frames = _child(root, path, "frames")
        return Group(path, label, frames="frames" if frames else "", flat=_FLAT, extra=domain)

    def on_disk(self, root: Path, group: Group) -> list[str]:
        return []

    def sources(self, root: Path, group: Group) -> list[SourceVideo]:
        raise DataError(
            f"{root / group.folder}: DF40 is published as aligned faces, there is nothing to crop; run rearrange.py"
        )

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        _, domain = _parts(dataset)
        split_of = read_splits(root.parent / "FaceForensics++") if domain == "ff" else {}

        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            if domain == "ff" and name not in split_of:
                return Facts(group.label, (), why="stands in none of FaceForensics++'s split files")
            people = identities(dataset, name) if domain else UNKNOWN
            return Facts(group.label, (split_of[name] if domain == "ff" else "test",), *people)

        return describe


def _parts(dataset: str) -> tuple[str, str | None]:
    """Return (method, domain) of a dataset's name; a method with real faces of its own has none."""
    method, underscore, domain = dataset.rpartition("_")
    return (method, domain) if underscore and domain in _REALS else (dataset, None)


def _label(dataset: str, kind: str) -> str:
    return method_labels(_parts(dataset)[0])[_KINDS.index(kind)]


def _children(root: Path, folder: str) -> list[str]:
    visit = next(walk(root / folder), None)
    return [f"{folder}/{name}" if folder else name for name in (visit.folders if visit else ())]


def _child(root: Path, folder: str, name: str) -> str | None:
    """Return a folder's child of a name written in any case."""
    return next((path for path in _children(root, folder) if path.rpartition("/")[2].lower() == name.lower()), None)


def _method_folders(root: Path, method: str, base: str = "") -> list[str]:
    """Return a method's folder in any case (RDDM, StarGANv2), under its own name or the one DF40 gives the folder."""
    wanted = {method.lower(), _FOLDERS.get(method.lower(), method.lower())}
    return [path for path in _children(root, base) if path.rpartition("/")[2].lower() in wanted]


LAYOUT = DF40()
