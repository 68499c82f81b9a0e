"""From the paths that index files hold to places below the RGB root, which neither a path nor a link can leave."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Mapping, Sequence

from common.datasets import DATASETS
from common.errors import DataError

_DRIVE = re.compile(r"[A-Za-z]:/")
# How folders of the field's datasets begin, to guess where a foreign path stops being foreign.
_FIELD = tuple(record.begins for record in DATASETS if record.begins)


def inside(path: str, root: str, prefixes: Mapping[str, str] | None = None, roots: Sequence[str] = ()) -> str:
    """Return an index path relative to the RGB root, with forward slashes.

    Index files of the field begin with `./datasets/`, with `datasets/rgb/`, with the root itself (relative or absolute), or
    with the dataset's own folder; backslashes count as slashes.

    Args:
        path: as the index has it.
        root: `rgb_dir`.
        prefixes: `path_prefix`: how paths of another machine begin → what stands there on this one. The longest counts.
        roots: `data.roots`: a path into one of these folders is returned absolute.

    Raises:
        DataError: the path would leave the root.
    """
    clean = os.path.normpath(_mapped(_slashes(path), prefixes) if prefixes else _slashes(path))
    if os.path.isabs(clean):
        for base in (os.path.abspath(root), os.path.realpath(root)):
            if _below(clean, base):
                return clean[len(base.rstrip("/")) + 1 :]
        if any(_below(clean, os.path.abspath(other)) for other in roots):
            return clean
        raise DataError(f"the index names {path}, which lies outside rgb_dir ({root}); {_cure(clean, root)}")
    if _DRIVE.match(clean):
        raise DataError(f"the index names {path}, which lies outside rgb_dir ({root}); {_cure(clean, root)}")
    for prefix in (os.path.normpath(root), "datasets/rgb", "datasets"):
        if clean.startswith(prefix + "/"):
            clean = clean[len(prefix) + 1 :]
            break
    if clean == ".." or clean.startswith("../"):
        raise DataError(f"the index names {path}, which leaves rgb_dir ({root}); {_cure(clean, root)}")
    return clean


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _slashes(path: str) -> str:
    return path.replace("\\", "/")


def _mapped(path: str, prefixes: Mapping[str, str]) -> str:
    """Return the path with the longest prefix that it begins with replaced; an empty replacement is the RGB root."""
    for foreign in sorted(prefixes, key=len, reverse=True):
        start = _slashes(foreign).rstrip("/") + "/"
        # Windows does not tell capitals apart.
        head = path[: len(start)]
        if head == start or (_DRIVE.match(start) and head.casefold() == start.casefold()):
            return posixpath.join(_slashes(prefixes[foreign]), path[len(start) :].lstrip("/"))
    return path


def _cure(path: str, root: str) -> str:
    """Say what to do about a path of another machine, with the very line to add: the part before what lies below the root."""
    parts = path.split("/")
    places = range(1, len(parts))
    guesses = [
        *(i for i in places if parts[i] not in ("", "..") and os.path.exists(os.path.join(root, parts[i]))),
        *(i + 1 for i in reversed(places) if parts[i] in ("rgb", "datasets")),
        *(i for i in places if parts[i].startswith(_FIELD)),
        max(1, len(parts) - 5),
    ]
    example = json.dumps({"/".join(parts[: guesses[0]]) or "/": root}, ensure_ascii=False)
    return (
        f"if the index was written on another machine, add `path_prefix: {example}` to the YAML; else set rgb_dir to the "
        "folder above the datasets, or write the index again with rearrange.py"
    )


def sibling(path: str, folder: str, suffix: str) -> str:
    """Return the path of the same frame under `masks` or `landmarks`: the last folder named `frames` is replaced.

    Raises:
        DataError: no folder of the path is named `frames`.
    """
    parts = path.split("/")
    if "frames" not in parts[:-1]:
        raise DataError(
            f"{path} does not lie below a folder named `frames`, so the index tells nothing of its {folder}"
        )
    parts[len(parts) - 1 - parts[::-1].index("frames")] = folder
    return "/".join(parts).rpartition(".")[0] + suffix


class Ground:
    """The RGB root as the disk has it: where folders really lie, and that no link among them leads out.

    The root itself may be a link. Links that lead elsewhere are followed into `roots` only.
    """

    def __init__(self, root: str | os.PathLike, roots: Sequence[str] = ()):
        self.root = str(root)
        self._allowed = [os.path.realpath(folder) for folder in (self.root, *roots)]
        self._real: dict[str, str] = {}
        self._links: dict[str, frozenset[str]] = {}

    def real(self, path: str) -> str:
        """Return where a path below the root really lies. Its folder is looked at once, its neighbours are then free.

        Raises:
            DataError: a link leads out of the root.
        """
        folder, _, name = path.rpartition("/")
        real = self.real_folder(folder)
        if folder not in self._links:
            try:
                with os.scandir(real) as entries:
                    self._links[folder] = frozenset(entry.name for entry in entries if entry.is_symlink())
            except OSError:  # not there: whoever reads it says so
                self._links[folder] = frozenset()
        return self.resolved(path) if name in self._links[folder] else f"{real}/{name}"

    def real_folder(self, folder: str) -> str:
        """Return where a folder really lies, remembered; DataError as `real`."""
        if folder not in self._real:
            self._real[folder] = self.resolved(folder)
        return self._real[folder]

    def resolved(self, path: str) -> str:
        """Return where a path really lies, asking the disk; DataError as `real`."""
        real = os.path.realpath(os.path.join(self.root, path))
        if self._allows(real):
            return real
        # The link is named, and not what lies behind it: allowing its target allows all of that.
        parts = path.split("/")
        steps = (os.path.join(self.root, *parts[: i + 1]) for i in range(len(parts)))
        link = next((step for step in steps if not self._allows(os.path.realpath(step))), os.path.join(self.root, path))
        target = os.path.realpath(link)
        target = target if os.path.isdir(target) else os.path.dirname(target)
        raise DataError(
            f"{link} is a link that leads out of rgb_dir, to {os.path.realpath(link)}; move the files there, or allow the place "
            f"with --set 'data.roots={json.dumps([target], ensure_ascii=False)}'"
        )

    def _allows(self, real: str) -> bool:
        return any(real == base or _below(real, base) for base in self._allowed)
