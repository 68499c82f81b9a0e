"""From the paths that index files hold to paths below the RGB root, which no index can leave."""

import os
import re

from common.errors import DataError

_DRIVE = re.compile(r"[A-Za-z]:/")


def inside(path: str, root: str) -> str:
    """Return an index path relative to the RGB root, with forward slashes.

    Index files of the field begin with `./datasets/`, with `datasets/rgb/`, with the root itself (relative or absolute), or
    with the dataset's own folder; backslashes count as slashes.

    Raises:
        DataError: the path would leave the root.
    """
    clean = os.path.normpath(path.replace("\\", "/"))
    if os.path.isabs(clean):
        base = os.path.abspath(root)
        if not clean.startswith(base + "/"):
            raise DataError(
                f"the index names {path}, which lies outside rgb_dir ({root}); set rgb_dir to the folder above the "
                "datasets, or write the index again with rearrange.py"
            )
        return clean[len(base) + 1 :]
    for prefix in (os.path.normpath(root), "datasets/rgb", "datasets"):
        if clean.startswith(prefix + "/"):
            clean = clean[len(prefix) + 1 :]
            break
    if clean == ".." or clean.startswith("../") or _DRIVE.match(clean):
        raise DataError(
            f"the index names {path}, which leaves rgb_dir ({root}); mend it, or write it again with rearrange.py"
        )
    return clean


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
