"""Where faces are in an image. Another detector is one class with `detect`."""

from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError


class Box(NamedTuple):
    """A face's rectangle in pixels of the image, with the detector's score (higher is surer)."""

    left: float
    top: float
    right: float
    bottom: float
    score: float = 0.0

    @property
    def side(self) -> float:
        """Length of the longer side."""
        return max(self.right - self.left, self.bottom - self.top)

    def scaled(self, factor: float) -> "Box":
        """Return the box in an image that is `factor` times as large."""
        return Box(self.left * factor, self.top * factor, self.right * factor, self.bottom * factor, self.score)

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


class FaceDetector(Protocol):
    """What the pipeline asks of a detector."""

    def detect(self, image: NDArray[np.uint8], near: Box | None = None, smallest: float = 0.0) -> list[Box]:
        """Return the faces of an (H, W, 3) RGB image, largest first.

        Args:
            near: look only for faces of about that place and size.
            smallest: faces narrower than this many pixels need not be found (a hint that may save time).
        """
        ...


def overlap(first: Box, second: Box) -> float:
    """Return intersection over union, 0 to 1."""
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (first.area + second.area - common)


def build_face_detector(name: str = "hog") -> FaceDetector:
    """Return the detector `hog` (default; dlib HOG) or `cnn` (dlib MMOD; wants a dlib built for CUDA)."""
    from preprocessing.faces.dlib_cnn import DlibCnn
    from preprocessing.faces.dlib_hog import DlibHog

    known = {"hog": DlibHog, "cnn": DlibCnn}
    if name not in known:
        raise ConfigError(f"--detector {name}: there is no such face detector; known: {', '.join(known)}")
    return known[name]()


def to_gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luma of an RGB image; a gray one passes."""
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
