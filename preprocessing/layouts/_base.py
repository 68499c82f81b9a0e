"""What a layout says about a dataset: which folders hold videos, and what each video is."""

import os
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import DataError

VIDEO_SUFFIXES = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"))
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp"))
PRODUCTS = ("frames", "landmarks", "masks")
"""Folders that preprocessing adds to a group's folder."""
SPLITS = ("train", "val", "test")


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
        frames: where the folders of frames are, below `folder`.
        extra: what a layout wants to remember (an actor, a split, …).
    """

    folder: str
    label: str | None = None
    compression: str | None = None
    masks: str | None = None
    masked: bool = False
    images: bool = False
    frames: str = "frames"
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
        splits: of `train`, `val`, `test`; empty leaves the video out.
        target_id, source_id: whose video it is, and whose face was put in; None where the dataset does not tell.
    """

    label: str
    splits: tuple[str, ...]
    target_id: str | None = None
    source_id: str | None = None


Describe = Callable[[Group, str], Facts]


class Layout:
    """Base of the layouts.

    Attributes:
        names: dataset names that use it; the first is the usual one.
        annotations: glob patterns, relative to the dataset's folder, of the small files that say splits and labels.
        compressed: the dataset comes in several compressions.
        mended: sentences for the log, where our index differs from DeepfakeBench's on purpose.
    """

    names: tuple[str, ...]
    annotations: tuple[str, ...] = ()
    compressed = False
    mended: tuple[str, ...] = ()

    def folder(self, dataset: str) -> str:
        """Return the name of the folder that holds the dataset."""
        return dataset

    def recognises(self, root: Path) -> bool:
        """Tell whether `root` looks like this dataset from inside."""
        return bool(self.groups(root, root.name))

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        """Return the groups whose folders exist under `root`."""
        raise NotImplementedError

    def unknown_folders(self, root: Path) -> list[str]:
        """Return folders that look like part of the dataset but that the layout does not know."""
        return []

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
    found = []
    for here, folders, files in os.walk(folder, followlinks=True):
        # Pruned, not filtered: frames/ may hold millions of files.
        folders[:] = sorted(name for name in folders if name not in PRODUCTS and not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                found.append(Path(here, name))
    return found


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


def read_lines(path: Path) -> list[str]:
    """Return the non-empty lines of a text file.

    Raises:
        DataError: it is missing or no text.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise DataError(f"the split file {path} is missing; it comes with the dataset, put it there") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
