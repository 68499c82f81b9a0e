"""The folders of frames that a group has: one per video, whatever its pictures end in; shared by the index and the database."""

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from preprocessing.layouts._base import MANIFESTS, PRODUCTS, Group
from preprocessing.media import Visit, is_picture, is_video, walk

NO_FRAMES = "holds no frames"
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class FrameFolder:
    """One video's frames: `files` lie in `folder`, which is relative to the dataset's folder, in the order of their numbers."""

    name: str
    folder: str
    files: tuple[str, ...]


@dataclass
class FoundFrames:
    """What a group has.

    Attributes:
        missing: it has no frames yet.
        aligned: its frames lie in the group's folder itself.
        left_out: why → paths of what is not taken.
    """

    videos: list[FrameFolder] = field(default_factory=list)
    missing: bool = False
    aligned: bool = False
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave(self, why: str, *paths: PurePosixPath) -> None:
        """Remember what is not taken."""
        self.left_out.setdefault(why, []).extend(str(path) for path in paths)


def find_frames(root: Path, group: Group) -> FoundFrames:
    """Return the videos of a group that have frames, sorted by name.

    They are the folders below `frames/` that hold pictures. Where there is no `frames/`, the folders of pictures in the group's
    own folder are taken for aligned faces.
    """
    found = FoundFrames()
    base = PurePosixPath(group.folder, group.frames)
    if group.frames and not (root / base).is_dir():
        base, found.aligned = PurePosixPath(group.folder), True
    visits = list(walk(root / base, PRODUCTS if base == PurePosixPath(group.folder) else ()))
    if not visits or (found.aligned and _waits(root, visits)):
        found.missing = True
        return found
    taken: list[tuple[PurePosixPath, PurePosixPath, list[str]]] = []  # whence the name, where, files
    for visit in visits:
        place, top = base / visit.path, visit.path == PurePosixPath(".")
        pictures, others = _pictures(visit.files)
        if found.aligned and top and not group.flat:
            continue  # what lies in a group's folder itself are sources
        if others:
            found.leave("is no picture by its ending", *(place / name for name in others))
        if pictures and group.flat and (top or any(fnmatchcase(visit.path.name, name) for name in group.flat)):
            taken += [(visit.path / _stem(name), place, [name]) for name in pictures]
        elif pictures and top:
            found.leave("lies in no folder of a video", *(place / name for name in pictures))
        elif pictures:
            taken.append((visit.path, place, _one_each(pictures, place, found)))
        elif not visit.folders and not top:
            found.leave(NO_FRAMES, place)
    names = _names([path for path, _, _ in taken])
    found.videos = [FrameFolder(name, str(place), tuple(files)) for (_, place, files), name in zip(taken, names)]
    found.videos.sort(key=lambda video: video.name)
    found.missing = found.aligned and not found.videos
    return found


def _waits(root: Path, visits: list[Visit]) -> bool:
    """Tell whether a group without `frames/` waits for preprocessing: that has begun here, or there are videos to do."""
    return any(root.glob(MANIFESTS)) or any(is_video(name) for visit in visits for name in visit.files)


def pictures_in(folder: Path) -> list[str]:
    """Return the pictures in a folder, in the order of the numbers in their names (1000.png after 999.jpg)."""
    visit = next(walk(folder), None)
    return _pictures(visit.files)[0] if visit else []


def _pictures(names: list[str]) -> tuple[list[str], list[str]]:
    pictures: list[str] = []
    others: list[str] = []
    for name in names:
        (pictures if is_picture(name) else others).append(name)
    return sorted(pictures, key=_by_number), others


def _by_number(name: str) -> tuple[list[str | int], str]:
    parts: list[str | int] = list(_DIGITS.split(_stem(name)))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def _one_each(names: list[str], place: PurePosixPath, found: FoundFrames) -> list[str]:
    """Keep one picture of each frame: 000.png rather than the 000.jpg beside it."""
    best: dict[str, str] = {}
    for name in names:
        other = best.setdefault(_stem(name), name)
        if other != name:
            better, worse = (name, other) if name.lower().endswith(".png") else (other, name)
            best[_stem(name)] = better
            found.leave("is a second picture of a frame", place / worse)
    return list(best.values())


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _names(paths: list[PurePosixPath]) -> list[str]:
    """Return each folder's name, or the joined path where two share one."""
    counts: dict[str, int] = {}
    for path in paths:
        counts[path.name] = counts.get(path.name, 0) + 1
    return [path.name if counts[path.name] == 1 else "_".join(path.parts) for path in paths]
