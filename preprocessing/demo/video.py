"""Write short H.264 videos, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from training.io import atomic_path


def write_video(path: Path, frames: Iterable[np.ndarray], crf: int, fps: int = 10, preset: str = "veryfast") -> None:
    """Write `(H, W, 3)` uint8 RGB frames (even sides) as H.264 at a constant rate factor."""
    _write(path, frames, {"crf": str(crf), "preset": preset}, fps, "rgb24")


def write_masks(path: Path, masks: Iterable[np.ndarray], fps: int = 10) -> None:
    """Write `(H, W)` masks in {0, 1} as a lossless grey video: 255 is manipulated."""
    frames = (np.ascontiguousarray(mask * np.uint8(255)) for mask in masks)
    _write(path, frames, {"qp": "0", "preset": "ultrafast"}, fps, "gray")


def _write(path: Path, frames: Iterable[np.ndarray], options: dict[str, str], fps: int, form: str) -> None:
    import av

    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = None
        for frame in frames:
            if stream is None:
                # One thread: x264's frame threads would make the bits depend on the machine's cores.
                stream = container.add_stream("libx264", rate=fps, options={**options, "threads": "1"})
                stream.height, stream.width = frame.shape[:2]
                # Masks keep their values exactly only in full-range luma.
                stream.pix_fmt = "yuv420p" if form == "rgb24" else "gray"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, form)))
        assert stream is not None, "a video needs at least one frame"
        container.mux(stream.encode())
