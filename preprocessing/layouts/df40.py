"""DF40 (Yan et al., NeurIPS 2024): forty manipulations of FaceForensics++ and Celeb-DF, published as aligned faces.

    DF40/<method>/{ff,cdf}/[frames/]<video>/*.png, beside FaceForensics++/ or Celeb-DF-v2/ with the real frames

Each method and domain is a dataset of its own, `<method>_ff` or `<method>_cdf`, with the labels `roop_Real` and `roop_Fake`,
as its authors' index files have it: `rearrange.py --dataset_name simswap_ff --layout DF40`.
Splits: FaceForensics++'s lists (`ff`); everything is for testing (`cdf`). Identity: as in the domain.
"""

from pathlib import Path

from common.datasets import identities
from common.errors import ConfigError, DataError
from preprocessing.layouts._base import Describe, Facts, Group, Layout, SourceVideo
from preprocessing.layouts.faceforensics import read_splits

_REAL, _FAKE = "roop_Real", "roop_Fake"
_REALS = {
    "ff": ("../FaceForensics++/original_sequences/youtube/c23",),
    "cdf": ("../Celeb-DF-v2/Celeb-real", "../Celeb-DF-v2/YouTube-real"),
}
_FAMILY = {"ff": "FaceForensics++", "cdf": "Celeb-DF-v2"}


class DF40(Layout):
    """For indexing only: there is nothing to crop."""

    names = ("DF40",)

    def folder(self, dataset: str) -> str:
        return "DF40"

    def recognises(self, root: Path) -> bool:
        return any((path / domain).is_dir() for path in root.iterdir() if path.is_dir() for domain in _REALS)

    def labels(self, dataset: str) -> tuple[str, ...]:
        return _REAL, _FAKE

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        method, domain = _parts(dataset)
        folder = root / method / domain
        if not folder.is_dir():
            raise DataError(f"{root} has no folder {method}/{domain}; unpack that part of DF40 there")
        frames = "frames" if (folder / "frames").is_dir() else ""
        reals = [Group(path, _REAL, extra=domain) for path in _REALS[domain] if (root / path).is_dir()]
        return [*reals, Group(f"{method}/{domain}", _FAKE, frames=frames, extra=domain)]

    def sources(self, root: Path, group: Group) -> list[SourceVideo]:
        raise DataError(
            f"{root / group.folder}: DF40 is published as aligned faces, there is nothing to crop; run rearrange.py"
        )

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        _, domain = _parts(dataset)
        split_of = read_splits(root.parent / "FaceForensics++") if domain == "ff" else {}

        def describe(group: Group, name: str) -> Facts:
            assert group.label is not None
            splits = ("test",) if domain == "cdf" else (split_of[name],) if name in split_of else ()
            return Facts(group.label, splits, *identities(_FAMILY[domain], name))

        return describe


def _parts(dataset: str) -> tuple[str, str]:
    method, underscore, domain = dataset.rpartition("_")
    if not underscore or domain not in _REALS:
        raise ConfigError(
            f"dataset_name `{dataset}`: with --layout DF40 it is <method>_ff or <method>_cdf, as in simswap_ff"
        )
    return method, domain


LAYOUT = DF40()
