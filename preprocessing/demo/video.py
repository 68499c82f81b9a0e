"""Write short H.264 videos, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from common.h264 import encode
from common.io import atomic_path


def write_video(path: Path, frames: Iterable[np.ndarray], crf: int, fps: int = 10, preset: str = "veryfast") -> None:
    """Write `(H, W, 3)` uint8 RGB frames (even sides) as H.264 at a constant rate factor."""
    _write(path, frames, {"crf": str(crf), "preset": preset}, fps)


def write_masks(path: Path, masks: Iterable[np.ndarray], fps: int = 10) -> None:
    """Write `(H, W)` masks in {0, 1} as a lossless grey video: 255 is manipulated."""
    # Masks keep their values exactly only in full-range luma, which grey is.
    _write(path, (mask * np.uint8(255) for mask in masks), {"qp": "0", "preset": "ultrafast"}, fps)


def _write(path: Path, frames: Iterable[np.ndarray], options: dict[str, str], fps: int) -> None:
    import av

    with atomic_path(path) as temporary, av.open(f"file:{temporary}", "w", format="mp4") as container:
        encode(container, frames, fps, options)
