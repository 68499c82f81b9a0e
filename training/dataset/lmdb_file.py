"""Whether an LMDB file is whole. LMDB maps the file; a page behind its end ends the process without a word (SIGBUS)."""

import os
import struct
from pathlib import Path

from common.errors import DataError

# A page's header has 16 bytes. Behind it, on 64-bit machines: magic, version, address, size of the map, two databases of 48
# bytes (the first begins with the page's size), number of the last page, number of the transaction.
_META = struct.Struct("<16xII8x8xI92xQQ")
_MAGIC = 0xBEEFC0DE


def check_whole(path: Path) -> None:
    """Compare a data file's size with the pages that its newest transaction uses.

    Raises:
        DataError: the file is shorter. What is no LMDB file of this kind is left for LMDB to refuse.
    """
    with open(path, "rb") as file:
        there = os.fstat(file.fileno()).st_size
        first = file.read(_META.size)
        if len(first) < _META.size or _META.unpack(first)[0] != _MAGIC:
            return
        size = _META.unpack(first)[2]
        file.seek(size)
        second = file.read(_META.size)
    metas = [_META.unpack(page) for page in (first, second) if len(page) == _META.size]
    # (last page, transaction) of the two meta pages, which are written in turn.
    last = max(((meta[4], meta[3]) for meta in metas if meta[0] == _MAGIC), default=(0, 0))[1]
    needed = (last + 1) * size
    if there < needed:
        raise DataError(
            f"{path} has {there} of {needed} bytes: it was cut short, or is still being copied; copy it again, or write it "
            "again with to_lmdb.py"
        )
