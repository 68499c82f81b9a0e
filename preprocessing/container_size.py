"""Whether a video file has all the bytes that its container says it has: a download that stopped early.

Decoders read what is there and say nothing: half a Matroska file is a film of half the length. The sizes that containers
write down (boxes, elements, headers, whole packets) tell without decoding.
"""

import struct
from pathlib import Path
from typing import BinaryIO

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"sidx", b"free", b"skip", b"wide", b"pnot")
_MOST = 1_000_000  # elements looked at: more than ten hours of film have


def cut_short(path: Path) -> str | None:
    """Return a sentence where the file is shorter than it says, None where it is whole or does not say."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(1024)
        try:
            if head[4:8] in _BOXES:
                end = _boxes(file, size)
            elif head.startswith(b"\x1a\x45\xdf\xa3"):
                end = _elements(file, size)
            elif head.startswith(_ASF_HEADER):
                end = _asf(file)
            elif step := _packet_size(head):
                end = -(-size // step) * step
            else:
                return None
        except (struct.error, ValueError):  # the end is in the middle of a size
            return "the file is cut short"
    return f"the file is cut short: it has {size} of {end} bytes" if end > size else None


def _boxes(file: BinaryIO, size: int) -> int:
    """MP4, MOV, 3GP: boxes one after the other, each with its size."""
    at = 0
    for _ in range(_MOST):
        if at >= size:
            break
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = struct.unpack(">Q", file.read(8))[0]
        if length < 8 or not kind.isalnum():  # 0: up to the end; else something that others have put behind the boxes
            return size
        at += length
    return at


def _elements(file: BinaryIO, size: int) -> int:
    """Matroska, WebM: elements with their sizes, inside a segment; those of a live recording may leave the outer ones open."""
    at = 0
    for _ in range(_MOST):
        if at >= size:
            break
        file.seek(at)
        kind, _ = _variable(file, keep_mark=True)
        length, unknown = _variable(file, keep_mark=False)
        if unknown and kind not in (_SEGMENT, _CLUSTER):
            return size
        at = file.tell() + (0 if unknown else length)
        if kind == _SEGMENT and not unknown:
            return at
    return at


def _variable(file: BinaryIO, keep_mark: bool) -> tuple[int, bool]:
    """Return EBML's number of variable length, and whether it stands for `unknown`."""
    first = file.read(1)
    if not first or not first[0]:
        raise ValueError("no number")
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        raise ValueError("cut short")
    value = int.from_bytes(first + rest, "big")
    mark = 1 << 7 * length
    return (value if keep_mark else value - mark), value == 2 * mark - 1


def _asf(file: BinaryIO) -> int:
    """WMV: the file's size stands in its header, except in a broadcast's."""
    file.seek(0)
    head = file.read(1 << 16)
    at = head.find(_ASF_FILE)
    if at < 0 or struct.unpack_from("<I", head, at + 88)[0] & 1:
        return 0
    return struct.unpack_from("<Q", head, at + 40)[0]


def _packet_size(head: bytes) -> int | None:
    """MPEG transport streams are whole packets; 192 with a time before each, 204 with a checksum behind."""
    for step, first in ((188, 0), (192, 4), (204, 0)):
        if len(head) > first + 4 * step and all(head[first + k * step] == 0x47 for k in range(5)):
            return step
    return None
