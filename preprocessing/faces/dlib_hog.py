"""dlib's HOG detector (Dalal & Triggs, CVPR 2005; King, arXiv 1502.00046), searched where it pays.

The field's packs were made with `detector(frame, 1)`: the whole frame, doubled, and then a pyramid of levels, each 5/6 of the
one before, on which a window of fixed size slides in steps of 8 pixels. A landmark predictor depends on the box it starts
from, so crops agree with those packs only when boxes fall on that very grid. Instead of the whole pyramid of a whole
frame, this detector renders just the tile of just the level that matters, on the same grid, and runs dlib on that:

* somewhere in the frame: reduced copies first, finer ones only when nothing was found (the largest face is found first);
* near a known box: three levels, one tile each: a hundredth of the pixels.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.faces.box import Box, overlap, to_gray

_TILE_GRID = 48  # where tiles start: on the grid of cells (8 pixels) of their level, and of the next one, which dlib searches too
_STEP = 1.2  # ratio of neighbouring pyramid levels
_DRIFT = 0.25  # dlib's own shift, in pixels, from one level to the next (as its boxes show)
_SHIFT = (1.25, 0.75)  # and, in x and y, from the doubled frame to the frame
_WINDOW = 73  # side of the sliding window as dlib reports it, in pixels of its level
_EXTRA = (2, 1)  # columns and rows that dlib's doubled frame has beyond twice the frame
_BLUR = 0.52  # sigma, pixels of a level: what a chain of bilinear reductions smooths beyond a single one
_TILE_MARGIN = 28  # pixels of a level searched at least on each side of the box
_SAME = 0.3  # overlap from which two boxes are taken for one face's
_CUTS = (0, 12, 28)  # by how much a tile is widened to shake off answers that hide those on its grid
_FINE_MARGIN = 20  # the same where a neighbouring level has just answered
_COARSE_SIDES = (256, 448, 720)  # shorter sides tried before the frame itself
_NEARLY = 1.3  # a face somewhat smaller than the window still answers often enough not to double a whole frame for it
_FINEST = 2.0  # the reference's one upsampling

_SUSPICION = -0.3
"""What a reduced copy answers is a hint that a tile confirms or not; so a weak one is worth following, ..."""
_SUSPECTS = 4
"""... if they are few."""
_SURE = 1.0
"""Such a face is there even if no tile confirms it (it fills the frame, so that no tile fits around it)."""

_NEAR_THRESHOLD = -0.2
"""Near a known face a weaker answer is believed; anywhere else dlib's own threshold 0 holds."""


class DlibHog:
    """The default detector, by name `hog`; CPU, one thread."""

    name = "hog"

    def __init__(self) -> None:
        import dlib

        self._detector = dlib.get_frontal_face_detector()

    def detect(self, image: NDArray[np.uint8], near: Box | None = None, smallest: float = 0.0) -> list[Box]:
        """Return the faces of an (H, W, 3) RGB image, largest first.

        Args:
            near: look only for faces of about that place and size.
            smallest: faces narrower than this many pixels need not be found, which saves the finer searches.
        """
        return self._near(image, near) if near is not None else self._anywhere(image, smallest)

    def everybody(self, image: NDArray[np.uint8]) -> list[Box]:
        """Return all faces of an (H, W, 3) RGB image, down to some 70 pixels, largest first; `detect` stops sooner."""
        gray, found = to_gray(image), self.detect(image)
        short = min(gray.shape)
        for scale in [side / short for side in _COARSE_SIDES if side < short] + [1.0]:
            for hit in sorted(self._run(_resized(gray, scale), _SUSPICION), key=lambda hit: -hit.score)[
                : 2 * _SUSPECTS
            ]:
                place = hit.scaled(1 / scale)
                if any(overlap(place, other) >= _SAME for other in found):
                    continue
                box = self._confirmed(image, place)
                if box is not None and all(overlap(box, other) < _SAME for other in found):
                    found.append(box)
        return _largest_first(found)

    def _anywhere(self, image: NDArray[np.uint8], smallest: float) -> list[Box]:
        # Where to look closer: brightness alone answers faster. The tiles keep their colours, as the reference does.
        gray = to_gray(image)
        short = min(gray.shape)
        scales = [side / short for side in _COARSE_SIDES if side < short] + [1.0, _FINEST]
        for scale in scales:
            hits = sorted(self._run(_resized(gray, scale), _SUSPICION), key=lambda hit: -hit.score)
            boxes = [self._confirmed(image, hit.scaled(1 / scale)) for hit in hits[:_SUSPECTS]]
            found = [box for box in boxes if box is not None]
            if found:
                return _largest_first(found)
            if _WINDOW / scale <= _NEARLY * smallest:
                break
        return []

    def _confirmed(self, image: NDArray[np.uint8], box: Box) -> Box | None:
        """Look closer at what a reduced copy hints at; return the box on the reference's grid if a face is there."""
        sure = [hit for hit in self._near(image, box) if hit.score >= 0]
        return max(sure, key=lambda hit: overlap(hit, box), default=box if box.score >= _SURE else None)

    def _near(self, image: NDArray[np.uint8], box: Box) -> list[Box]:
        level = _level_of(box.side)
        found, hints = self._level(image, box, level, _TILE_MARGIN)
        # The same face answers on the neighbouring levels too, and the best answer counts.
        places = [(hit, _FINE_MARGIN) for hit in found or hints] or [(box, _TILE_MARGIN)]
        for other in (level + 1, level - 1):
            if other >= 0:
                found = found + [
                    hit for place, margin in places for hit in self._level(image, place, other, margin, found)[0]
                ]
        kept: list[Box] = []
        for hit in sorted(found, key=lambda hit: -hit.score):
            if all(overlap(hit, other) < _SAME for other in kept):
                kept.append(hit)
        return _largest_first(kept)

    def _level(
        self, image: NDArray[np.uint8], box: Box, level: int, margin: int, known: Sequence[Box] = ()
    ) -> tuple[list[Box], list[Box]]:
        """Search one level around a box; return the faces on its grid, and answers off it.

        dlib searches smaller copies of a tile as well, and drops an answer for a better one there that overlaps it. Those
        copies do not count, but another cut of the tile gives other copies, and the answer comes back: worth a look
        only where it may be better than what is `known` of that face from other levels.
        """
        best = max((hit.score for hit in known if overlap(hit, box) >= _SAME), default=-math.inf)
        for wider in _CUTS:
            hits, others = self._cut(image, box, level, margin + wider)
            if not any(hit.score > best and overlap(hit, box) >= _SAME for hit in others):
                break
            if any(overlap(hit, box) >= _SAME for hit in hits):
                break
        return hits, others

    def _cut(self, image: NDArray[np.uint8], box: Box, level: int, margin: int) -> tuple[list[Box], list[Box]]:
        """Return the faces on the level's own grid, and those on the smaller copies of the tile."""
        height, width = image.shape[:2]
        columns, rows = _level_side(width, level, _EXTRA[0]), _level_side(height, level, _EXTRA[1])
        # Tiles reach past the window by the cells that HOG normalises with.
        left = max(0, int(_to_level(box.left, level, _SHIFT[0]) - margin) // _TILE_GRID * _TILE_GRID)
        top = max(0, int(_to_level(box.top, level, _SHIFT[1]) - margin) // _TILE_GRID * _TILE_GRID)
        right = min(columns, int(_to_level(box.right, level, _SHIFT[0])) + margin)
        bottom = min(rows, int(_to_level(box.bottom, level, _SHIFT[1])) + margin)
        if right - left < _WINDOW or bottom - top < _WINDOW:
            return [], []
        step_x, step_y = (width - 1) / (columns - 1), (height - 1) / (rows - 1)
        tile = _sample(image, left, top, right - left, bottom - top, step_x, step_y)
        hits: list[Box] = []
        others: list[Box] = []
        for hit in self._run(tile, _NEAR_THRESHOLD):
            x, y, side = hit.left + left, hit.top + top, hit.right - hit.left
            on_grid = side <= _WINDOW + 1
            (hits if on_grid else others).append(
                Box(
                    _from_level(x, level, _SHIFT[0]),
                    _from_level(y, level, _SHIFT[1]),
                    _from_level(x + side, level, _SHIFT[0]),
                    _from_level(y + side, level, _SHIFT[1]),
                    hit.score,
                )
            )
        return hits, others

    def _run(self, image: NDArray[np.uint8], threshold: float) -> list[Box]:
        rectangles, scores, _ = self._detector.run(image, 0, threshold)
        return [Box(r.left(), r.top(), r.right(), r.bottom(), float(score)) for r, score in zip(rectangles, scores)]


def _largest_first(boxes: list[Box]) -> list[Box]:
    return sorted(boxes, key=lambda box: -box.area)


def _level_of(side: float) -> int:
    return max(0, round(math.log(max(side, 1.0) * _FINEST / _WINDOW) / math.log(_STEP)))


def _level_side(side: int, level: int, extra: int) -> int:
    length = 2 * side + extra
    for _ in range(level):
        length = length * 5 // 6
    return length


def _to_level(value: float, level: int, shift: float) -> float:
    value = (value + shift) * 2
    for _ in range(level):
        value = value / _STEP - _DRIFT
    return value


def _from_level(value: float, level: int, shift: float) -> int:
    for _ in range(level):
        value = (value + _DRIFT) * _STEP
    return math.floor(value / 2 - shift + 0.5)


def _resized(gray: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale == 1:
        return gray
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=way), np.uint8)


def _sample(
    image: NDArray[np.uint8], left: int, top: int, width: int, height: int, step_x: float, step_y: float
) -> NDArray[np.uint8]:
    """Render (height, width) pixels of a level; its pixel (x, y) lies at (x * step_x, y * step_y) of the frame."""
    x, y = left * step_x, top * step_y
    halve = max(1, int(min(step_x, step_y)))
    if halve > 1:
        # Bilinear sampling alone would skip pixels: average blocks first. A block's centre is at block * n + (n - 1) / 2.
        x0, y0 = max(0, int(x) - halve), max(0, int(y) - halve)
        x1, y1 = math.ceil(x + width * step_x) + halve, math.ceil(y + height * step_y) + halve
        part = image[y0:y1, x0:x1]
        rows, columns = part.shape[0] // halve, part.shape[1] // halve
        block = part[: rows * halve, : columns * halve]
        image = np.asarray(cv2.resize(block, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        x, y = ((value - origin - (halve - 1) / 2) / halve for value, origin in ((x, x0), (y, y0)))
        step_x, step_y = step_x / halve, step_y / halve
    matrix = np.array([[step_x, 0, x], [0, step_y, y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    tile = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.GaussianBlur(tile, (3, 3), _BLUR), np.uint8)
