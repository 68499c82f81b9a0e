"""What a layout says about a dataset: which folders hold videos, and what each video is."""

import os
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from common.datasets import home
from common.errors import DataError
from preprocessing.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES, walk

__all__ = [
    "IMAGE_SUFFIXES",
    "PRODUCTS",
    "VIDEO_SUFFIXES",
    "Describe",
    "Facts",
    "Group",
    "Layout",
    "SourceVideo",
]

PRODUCTS = ("frames", "landmarks", "masks")
"""Folders that preprocessing adds to a group's folder."""
MANIFESTS = "manifest*.jsonl"
"""Files that preprocessing keeps in the dataset's folder."""


@dataclass(frozen=True)
class Group:
    """A folder whose videos belong together; `frames/`, `landmarks/` and `masks/` are made in it.

    Attributes:
        folder: relative to the dataset's folder, forward slashes.
        label: what its videos are called in the index (`FF-real`); None when every video has its own.
        compression: `raw`, `c23`, `c40` in datasets that have them.
        masks: folder of mask videos of the same names, relative to the dataset's folder.
        masked: its videos are manipulated and may have masks.
        images: pictures count as videos of one frame.
        frames: where the folders of frames are, below `folder`; without it, the folders of pictures in `folder` itself are
            taken for aligned faces. Empty: there in any case.
        flat: names of folders whose pictures are a video each, if `folder` may hold such; `*` at the end stands for any rest.
            Pictures in `folder` itself then are a video each too.
        extra: what a layout wants to remember (an actor, a split, …).
    """

    folder: str
    label: str | None = None
    compression: str | None = None
    masks: str | None = None
    masked: bool = False
    images: bool = False
    frames: str = "frames"
    flat: tuple[str, ...] = ()
    extra: str = ""


@dataclass(frozen=True)
class SourceVideo:
    """A file to preprocess: `path` and `mask` relative to the dataset's folder, `name` the folder under `frames/`."""

    path: str
    group: Group
    name: str
    mask: str | None = None


@dataclass(frozen=True)
class Facts:
    """What the index says about one video.

    Attributes:
        label: key of `label_dict`.
        splits: of `train`, `val`, `test`; empty leaves the video out, and the label may be empty too.
        target_id, source_id: whose video it is, and whose face was put in; None where the dataset does not tell.
        why: what a video without a split lacks.
    """

    label: str
    splits: tuple[str, ...]
    target_id: str | None = None
    source_id: str | None = None
    why: str = "stands in no split"


Describe = Callable[[Group, str], Facts]


class Layout:
    """Base of the layouts.

    Attributes:
        names: dataset names that use it; the first is the usual one.
        annotations: glob patterns, relative to the dataset's folder, of the small files that say splits and labels.
        compressed: the dataset comes in several compressions.
        differs: sentences for the log, where our index differs from DeepfakeBench's on purpose.
    """

    names: tuple[str, ...]
    annotations: tuple[str, ...] = ()
    compressed = False
    differs: tuple[str, ...] = ()

    def folder(self, dataset: str) -> str:
        """Return the name of the folder that holds the dataset."""
        return home(dataset) if dataset in self.names else dataset

    def database(self, dataset: str) -> str:
        """Return the name of the LMDB database that the trainer looks for, without `_lmdb`."""
        return self.folder(dataset)

    def recognises(self, root: Path) -> bool:
        """Tell whether `root` looks like this dataset from inside."""
        return bool(self.groups(root, root.name))

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        """Return the groups whose folders exist under `root`."""
        raise NotImplementedError

    def unknown_folders(self, root: Path) -> list[str]:
        """Return folders that look like part of the dataset but that the layout does not know.

        They lie beside a folder of its own and hold videos, or faces.
        """
        known = {PurePosixPath(path) for path in self.known_folders(root)}
        beside = {parent for path in known for parent in path.parents}
        found = []
        for parent in sorted(beside):
            visit = next(walk(root / parent), None)
            for name in visit.folders if visit else ():
                place = parent / name
                if place not in known | beside and name not in PRODUCTS and _holds_media(root / place):
                    found.append(place.as_posix())
        return found

    def known_folders(self, root: Path) -> list[str]:
        """Return every folder that the layout reads, whatever was asked for, relative to the dataset's folder."""
        groups = self.groups(root, root.name)
        return [group.folder for group in groups] + [group.masks for group in groups if group.masks]

    def sources(self, root: Path, group: Group) -> list[SourceVideo]:
        """Return the videos of a group, sorted by path."""
        suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if group.images else VIDEO_SUFFIXES
        files = sorted(find_files(root / group.folder, suffixes))
        names = unique_names([path.relative_to(root / group.folder) for path in files])
        masks = {path.stem: path for path in find_files(root / group.masks, suffixes)} if group.masks else {}
        return [
            SourceVideo(
                path.relative_to(root).as_posix(),
                group,
                name,
                masks[path.stem].relative_to(root).as_posix() if path.stem in masks else None,
            )
            for path, name in zip(files, names)
        ]

    def on_disk(self, root: Path, group: Group) -> list[str]:
        """Return the paths of a group's videos that are still here to be preprocessed, relative to the dataset's folder."""
        return [video.path for video in self.sources(root, group)]

    def listed(self, root: Path, dataset: str, groups: list[Group]) -> Iterator[tuple[Group, str]]:
        """Yield (group, name) of every video that the dataset's own lists name; of groups that have no folder here, too."""
        yield from ()

    def left_out(self, root: Path, group: Group) -> list[str]:
        """Return the files in a group's folder that are taken neither for videos nor for annotations, by their endings."""
        suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if group.images else VIDEO_SUFFIXES
        notes = {path for pattern in self.annotations for path in root.glob(pattern)}
        return [
            path.relative_to(root).as_posix()
            for visit in walk(root / group.folder, PRODUCTS)
            for path in (root / group.folder / visit.path / name for name in visit.files)
            if path.suffix.lower() not in suffixes and path not in notes and not path.match(MANIFESTS)
        ]

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        """Return the function that says what a video is, from its group and its name under `frames/`.

        Raises:
            DataError: an annotation file is missing or damaged; the function itself: a video no annotation knows.
        """
        raise NotImplementedError

    def labels(self, dataset: str) -> tuple[str, ...]:
        """Return labels that stand in the index even when they hold no video."""
        return ()

    def finish(self, index: dict[str, Any], as_deepfakebench: bool) -> None:
        """Change the finished index (label → split → …) where a rule is about the whole of it."""

    def companions(self, dataset: str, index: dict[str, Any], as_deepfakebench: bool) -> dict[str, dict[str, Any]]:
        """Return further index files to write beside the dataset's own: file name without suffix → whole content."""
        return {}


def find_files(folder: Path, suffixes: Container[str]) -> list[Path]:
    """Return files below a folder with one of the suffixes, leaving out what preprocessing made and hidden files."""
    return [
        folder / visit.path / name
        for visit in walk(folder, PRODUCTS)
        for name in visit.files
        if Path(name).suffix.lower() in suffixes
    ]


def check_links(root: Path, groups: list[Group]) -> None:
    """Refuse a link that leads from one group's folder to another's: its videos would count twice, perhaps in two classes.

    Raises:
        DataError: names the link and both folders.
    """
    places: dict[str, Group] = {}
    for group in groups:
        own = os.path.realpath(root / group.folder) + os.sep
        other = places.setdefault(own, group)
        if other is not group:
            raise _twice(root / group.folder, root / other.folder)
    for own, group in places.items():
        for visit in walk(root / group.folder, PRODUCTS):
            for link in (root / group.folder / visit.path / name for name in visit.folders):
                if not link.is_symlink():
                    continue
                target = os.path.realpath(link) + os.sep
                for place, other in places.items():
                    within = target.startswith(place) and not place.startswith(own)
                    around = place.startswith(target) and not own.startswith(target)
                    if other is not group and (within or around):
                        raise _twice(link, root / other.folder)


def _twice(link: Path, folder: Path) -> DataError:
    return DataError(f"{link} is a link to videos of {folder}, which would count twice; remove the link")


def _holds_media(folder: Path) -> bool:
    return any(Path(name).suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES for v in walk(folder) for name in v.files)


def unique_names(paths: list[Path]) -> list[str]:
    """Return each file's stem, or the joined path where two files of a group share a stem."""
    stems = [path.stem for path in paths]
    counts: dict[str, int] = {}
    for stem in stems:
        counts[stem] = counts.get(stem, 0) + 1
    return [
        stem if counts[stem] == 1 else "_".join((*path.parts[:-1], path.name.replace(".", "_")))
        for stem, path in zip(stems, paths)
    ]


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Return (where it stands, line) of the non-empty lines of a text file, without the blanks around them.

    Raises:
        DataError: it is missing or no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"the split file {path} is missing; it comes with the dataset, put it there") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return [(f"{path}, line {number}", line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
