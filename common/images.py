"""Pictures as they come from strangers: decoded only after the header has said how large they are; and masks, by one rule.

A file of 200 bytes may claim 40000 x 40000 pixels. Every reader of picture files goes through here, so that such a file is a
sentence, not gigabytes of memory.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError

MAX_PIXELS = 64_000_000
"""Pixels that a picture may have where nobody says otherwise: 8000 x 8000, more than any face crop or photograph of a phone."""

MASK_FLOOR = 16
"""Masks come out of lossy codecs: what is darker is their noise. Shapes may be gray or coloured."""

_AGAIN = "download it again"


def decode_picture(
    data: bytes, place: str, flags: int | None = None, max_pixels: int = MAX_PIXELS, cure: str = _AGAIN
) -> NDArray:
    """Return a picture as `cv2.imdecode` does: (H, W, 3) uint8, blue first, where `flags` says nothing else.

    Args:
        data: the file's bytes.
        place: what the file is called, for messages.
        flags: OpenCV's; None: IMREAD_COLOR.
        max_pixels: width times height above which nothing is decoded.
        cure: what to do about an unreadable one, for the message.

    Raises:
        DataError: no picture of a known kind, a damaged one, or a larger one than `max_pixels`.
    """
    import cv2

    size = picture_size(data)
    if size is not None:
        check_pixels(*size, place, max_pixels)
    image = None
    if size is not None and min(size) > 0:  # what OpenCV would decode without a size that is known before is refused
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if flags is None else flags)
        except cv2.error:  # a damaged header may ask for what OpenCV refuses with an exception
            image = None
    if image is None:
        why = "is empty (0 bytes)" if not data else "is not a readable image"
        raise DataError(f"{place} {why}; {cure}")
    return image


def decode_rgb(data: bytes, place: str, max_pixels: int = MAX_PIXELS, cure: str = _AGAIN) -> NDArray[np.uint8]:
    """Return a picture as (H, W, 3) uint8 RGB; errors as `decode_picture`."""
    import cv2

    return np.asarray(cv2.cvtColor(decode_picture(data, place, None, max_pixels, cure), cv2.COLOR_BGR2RGB), np.uint8)


def decode_mask(data: bytes, place: str, max_pixels: int = MAX_PIXELS, cure: str = _AGAIN) -> NDArray[np.uint8]:
    """Return a mask picture as (H, W) uint8 of zeros and ones, as `mask_of` reads it; errors as `decode_picture`."""
    import cv2

    # 16-bit masks keep their depth, coloured ones their colours; transparency says nothing.
    image = decode_picture(data, place, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH, max_pixels, cure)
    return mask_of(image, lossy=data.startswith(b"\xff\xd8"))


def read_rgb(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return a picture file as (H, W, 3) uint8 RGB.

    Raises:
        DataError: no such file, unreadable, or too large.
    """
    return decode_rgb(read_file(path), str(path), max_pixels)


def read_file(path: str | os.PathLike) -> bytes:
    """Return a picture file's bytes (OpenCV itself cannot open every file name on every system).

    Raises:
        DataError: no such file, or it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"no such picture: {str(path)!r}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the disk and permissions") from error


def mask_of(image: NDArray, lossy: bool = False) -> NDArray[np.uint8]:
    """Return which pixels a mask marks as manipulated, (H, W) uint8 of zeros and ones.

    A pixel is marked where its brightest channel reaches `MASK_FLOOR` of 255, or where a mask of zeros and ones is 1.

    Args:
        image: (H, W) or (H, W, C); whole numbers of any depth, truth values, or fractions of 1.
        lossy: out of a lossy codec, where a lone 1 is noise.
    """
    brightest = image[..., :3].max(axis=2) if image.ndim == 3 else image  # a fourth channel is transparency
    if brightest.dtype == bool:
        return brightest.astype(np.uint8)
    top = brightest.max(initial=0)
    if brightest.dtype.kind == "f":
        return (brightest >= (MASK_FLOOR / 255 if top <= 1 else MASK_FLOOR)).astype(np.uint8)
    if top <= 1 and not lossy:
        return (brightest > 0).astype(np.uint8)
    depth = np.iinfo(brightest.dtype).max // 255 if brightest.dtype == np.uint16 and top > 255 else 1
    return (brightest >= MASK_FLOOR * depth).astype(np.uint8)


def check_pixels(width: int, height: int, place: str, max_pixels: int = MAX_PIXELS) -> None:
    """Raise DataError when a picture is larger than allowed."""
    if width * height > max_pixels:
        raise DataError(
            f"{place} says it has {width}x{height} pixels, more than the {max_pixels} that are allowed; make it smaller, or "
            "raise max_pixels"
        )


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) as a picture's header says, without decoding; None for what is no picture of a known kind."""
    for signature, reader in _READERS:
        if signature.match(data):
            try:
                return reader(data)
            except (struct.error, ValueError, IndexError):  # the header is cut short
                return None
    return None


def _png(data: bytes) -> tuple[int, int]:
    return struct.unpack_from(">II", data, 16)


def _gif(data: bytes) -> tuple[int, int]:
    return struct.unpack_from("<HH", data, 6)


def _bmp(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2
        return struct.unpack_from("<HH", data, 18)
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)  # a negative height: the first line is the upper one


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        at = data.index(b"\xff", at) + 1
        marker = data[at]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # stuffing, or a marker without a length
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header
            height, width = struct.unpack_from(">HH", data, at + 4)
            return width, height
        at += 1 + struct.unpack_from(">H", data, at + 1)[0]


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff(data: bytes) -> tuple[int, int]:
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
    first, step, value_at = (start + 8, 20, 12) if big else (start + 2, 12, 8)
    fields: dict[int, int] = {}
    for at in range(first, first + step * min(count, 4096), step):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag in (256, 257, 322, 323) and kind in (3, 4, 16):
            fields[tag] = struct.unpack_from(order + {3: "H", 4: "I", 16: "Q"}[kind], data, at + value_at)[0]
    # A tile is decoded whole, however small the picture is.
    sizes = [(fields.get(256, 0), fields.get(257, 0)), (fields.get(322, 0), fields.get(323, 0))]
    return max(sizes, key=lambda size: size[0] * size[1])


def _pnm(data: bytes) -> tuple[int, int]:
    if data[:2] == b"P7":
        head = data[: data.index(b"ENDHDR")]
        width, height = (re.search(rb"^%s\s+(\d+)" % name, head, re.MULTILINE) for name in (b"WIDTH", b"HEIGHT"))
        if not (width and height):
            raise ValueError("no size")
        return int(width[1]), int(height[1])
    words = re.sub(rb"#[^\n]*", b" ", data[2:2000]).split(None, 2)
    return int(words[0]), int(words[1])


def _avif(data: bytes) -> tuple[int, int]:
    # The picture, its transparency and its thumbnails each have an `ispe` box; the largest is what is asked.
    sizes = [struct.unpack_from(">II", data, found.end() + 4) for found in re.finditer(b"ispe", data)]
    return max(sizes, key=lambda size: size[0] * size[1])


def _jpeg2000(data: bytes) -> tuple[int, int]:
    right, bottom, left, top = struct.unpack_from(">IIII", data, data.index(b"\xff\x4f\xff\x51") + 8)
    return right - left, bottom - top


_READERS = tuple(
    (re.compile(signature, re.DOTALL), reader)
    for signature, reader in (
        (rb"\x89PNG\r\n\x1a\n", _png),
        (rb"\xff\xd8\xff", _jpeg),
        (rb"RIFF....WEBP", _webp),
        (rb"BM", _bmp),
        (rb"GIF8[79]a", _gif),
        (rb"II[*+]\0|MM\0[*+]", _tiff),
        (rb"P[1-7]\s|P[Ff]\s", _pnm),
        (rb"....ftyp.{0,64}?(?:avif|avis|mif1)", _avif),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", _jpeg2000),
    )
)
