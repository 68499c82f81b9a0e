"""Write pictures as H.264 so that the same pictures give the same bits again on the same machine.

An encoder that is handed RGB lets FFmpeg's scaler convert it, whose vector code promises no bits: on some processors the same
frames gave several files. Here pictures reach the encoder in its own pixel format, by integer arithmetic, and x264 gets one
thread, since its frame threads cut the work by the machine's cores. Between machines, x264's code for their processors differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import OutputContainer


def encode(
    container: OutputContainer, pictures: Iterable[NDArray[np.uint8]], fps: int, options: Mapping[str, str]
) -> None:
    """Encode one stream into an open container.

    Args:
        container: opened for writing.
        pictures: `(H, W, 3)` RGB of even sides, stored as 4:2:0; or `(H, W)`, stored as they are. At least one, of one size.
        fps: frames a second.
        options: of x264 (`crf`, `preset` …).
    """
    stream = None
    for picture in pictures:
        frame = encoder_frame(picture)
        if stream is None:
            stream = container.add_stream("libx264", rate=fps, options={**options, "threads": "1"})
            stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        container.mux(stream.encode(frame))
    assert stream is not None, "a video needs at least one picture"
    container.mux(stream.encode())


def encoder_frame(picture: NDArray[np.uint8]) -> VideoFrame:
    """Return a picture in the encoder's own format: `yuv420p` for `(H, W, 3)` RGB of even sides, `gray` for `(H, W)`."""
    import av

    if picture.ndim == 2:
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray")
    return av.VideoFrame.from_ndarray(rgb_to_yuv420(picture), format="yuv420p")


def rgb_to_yuv420(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the planes Y, U, V one under another, `(3 H / 2, W)`: ITU-R BT.601, limited range, colour of 2 × 2 pixels."""
    height, width = picture.shape[:2]
    red, green, blue = np.moveaxis(picture.astype(np.int32), -1, 0)
    # Factors of 1/65536; the odd half rounds.
    luma = (16829 * red + 33039 * green + 6416 * blue + (16 << 16) + (1 << 15)) >> 16
    red, green, blue = (plane.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3)) for plane in (red, green, blue))
    # Sums of four pixels: two bits more.
    u = (-9714 * red - 19071 * green + 28784 * blue + (128 << 18) + (1 << 17)) >> 18
    v = (28784 * red - 24103 * green - 4681 * blue + (128 << 18) + (1 << 17)) >> 18
    planes = np.concatenate([plane.ravel() for plane in (luma, u, v)])
    return planes.astype(np.uint8).reshape(height * 3 // 2, width)
