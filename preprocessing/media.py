"""Which files are videos and which are pictures, by their endings; and folders walked so that links multiply nothing.

One notion for all: layouts, frames folders, databases, `predict.py`. What has another ending is not opened, and named by whoever
leaves it out. Playlists (`.m3u8`, `.ffconcat`, …) name other media instead of holding any, and are no videos.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from common.errors import DataError


def _endings(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


VIDEO_SUFFIXES = _endings(
    "mp4 m4v mov qt avi divx mkv mk3d webm wmv asf mpg mpeg mpe m1v m2v mpv vob flv f4v ts mts m2ts m2t 3gp 3g2 ogv ogm mxf "
    "rm rmvb dv y4m nut ivf amv mj2 mjpeg mjpg h264 264 avc h265 265 hevc obu"
)
IMAGE_SUFFIXES = _endings("png apng jpg jpeg jpe jfif bmp dib webp tif tiff gif avif jp2 pbm pgm ppm pnm pam")
LITTER = frozenset(("thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"))
"""What systems leave in folders; names that begin with a dot are litter too."""


def is_video(name: str | os.PathLike) -> bool:
    """Tell by the ending whether a file is a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_picture(name: str | os.PathLike) -> bool:
    """Tell by the ending whether a file is a picture."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_litter(name: str) -> bool:
    """Tell whether a file or folder is none of the user's own."""
    return name.startswith(".") or name.lower() in LITTER


@dataclass(frozen=True)
class Visit:
    """A folder on the way of `walk`: its path below the top (`.` for the top itself), its folders and its files, sorted."""

    path: PurePosixPath
    folders: list[str]
    files: list[str]


def walk(top: str | os.PathLike, pruned: Collection[str] = ()) -> Iterator[Visit]:
    """Yield `top` and what lies below it, each real folder once, however many links lead there.

    A link into a folder that is reached without it too, back to `top` or above it, adds nothing. Litter is left out. A `top` that
    is not there yields nothing.

    Args:
        pruned: names of folders that are not entered (frames/ may hold millions of files).

    Raises:
        DataError: a folder cannot be read.
    """
    real_top = os.path.realpath(top)
    links = [(PurePosixPath("."), real_top)]
    seen: set[str] = set()
    while links:  # what needs no link comes first
        here, real = links.pop(0)
        inner: list[tuple[PurePosixPath, str]] = []
        for visit, target in _without_links(top, here, real, pruned, seen):
            yield visit
            inner += target
        links += [
            (path, target)
            for path, target in inner
            if not (real_top == target or real_top.startswith(target.rstrip(os.sep) + os.sep))
        ]


def _without_links(
    top: str | os.PathLike, here: PurePosixPath, real: str, pruned: Collection[str], seen: set[str]
) -> Iterator[tuple[Visit, list[tuple[PurePosixPath, str]]]]:
    """Yield the folders from `here` on, each with the links to folders in it: (path below top, real path)."""
    stack = [(here, real)]
    while stack:
        path, place = stack.pop()
        if place in seen:
            continue
        seen.add(place)
        folders: list[str] = []
        files: list[str] = []
        links: list[tuple[PurePosixPath, str]] = []
        try:
            entries = sorted(os.scandir(Path(top) / path), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise DataError(
                f"cannot read the folder {Path(top) / path}: {error.strerror}; check its permissions"
            ) from error
        for entry in entries:
            if is_litter(entry.name):
                continue
            if not _is_folder(entry):
                files.append(entry.name)
                continue
            target = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(place, entry.name)
            if entry.name in pruned:
                seen.add(target)
                continue
            folders.append(entry.name)
            if entry.is_symlink():
                links.append((path / entry.name, target))
        linked = {link.name for link, _ in links}
        stack += [(path / name, os.path.join(place, name)) for name in reversed(folders) if name not in linked]
        yield Visit(path, folders, files), links


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def some(names: Collection[str], shown: int = 3) -> str:
    """Return the first few names, and how many more there are."""
    first = list(names)[:shown]
    return ", ".join(first) + (f" and {len(names) - shown} more" if len(names) > shown else "")
