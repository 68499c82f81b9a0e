"""What a network is shown of a frame, and its boxes in the frame's pixels, in the shape that landmark predictors know."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.faces.box import Box, overlap

_AROUND = 1.0  # of a followed face's side, searched on each side of it
_SIDE, _LOWER = 0.83, 0.05  # dlib's square beside a box from hairline to chin, in shares of its height (29 real frames)
_SAME = 0.4  # overlap from which two boxes show one face


@dataclass(frozen=True)
class Window:
    """A part of a frame, (h, w, 3) RGB, `scale` times as large as there, from (left, top) on."""

    pixels: NDArray[np.uint8]
    left: int
    top: int
    scale: float

    def back(self, left: float, top: float, right: float, bottom: float, score: float) -> Box:
        """Return a box of the window in pixels of the frame."""
        box = Box(left, top, right, bottom, score).scaled(1 / self.scale)
        return Box(box.left + self.left, box.top + self.top, box.right + self.left, box.bottom + self.top, score)


def window(image: NDArray[np.uint8], near: Box | None, side: float, short: int) -> Window:
    """Return the surroundings of `near`, sized so that its face has `side` pixels; else the frame, at most `short` across."""
    left = top = 0
    if near is not None:
        margin = _AROUND * near.side
        left, top = max(0, int(near.left - margin)), max(0, int(near.top - margin))
        image = image[top : max(top, int(near.bottom + margin)), left : max(left, int(near.right + margin))]
        scale = min(1.0, side / max(near.side, 1.0))
    else:
        scale = min(1.0, short / min(image.shape[:2]))
    if scale < 1 and image.size:
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Window(np.ascontiguousarray(image), left, top, scale)


def dlib_like(box: Box) -> Box:
    """Return the square that dlib would draw for a face whose box reaches from hairline to chin.

    Landmark predictors were fitted on dlib's squares, and start from where those lie.
    """
    height = box.bottom - box.top
    x, y = box.centre
    half, y = _SIDE * height / 2, y + _LOWER * height
    return Box(x - half, y - half, x + half, y + half, box.score)


def largest_first(boxes: list[Box]) -> list[Box]:
    """Return one box per face, the surest, sorted by size."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if all(overlap(box, other) < _SAME for other in kept):
            kept.append(box)
    return sorted(kept, key=lambda box: -box.area)
