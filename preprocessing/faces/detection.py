"""Where faces are in an image. Another detector is one class with `detect`."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError
from preprocessing.faces.box import Box


class FaceDetector(Protocol):
    """What the pipeline asks of a detector."""

    def detect(self, image: NDArray[np.uint8], near: Box | None = None, smallest: float = 0.0) -> list[Box]:
        """Return the faces of an (H, W, 3) RGB image, largest first.

        Args:
            near: look only for faces of about that place and size.
            smallest: faces narrower than this many pixels need not be found (a hint that may save time).
        """
        ...


def build_face_detector(name: str = "hog") -> FaceDetector:
    """Return the detector `hog` (default; dlib HOG) or `cnn` (dlib MMOD; wants a dlib built for CUDA)."""
    from preprocessing.faces.dlib_cnn import DlibCnn
    from preprocessing.faces.dlib_hog import DlibHog

    known = {"hog": DlibHog, "cnn": DlibCnn}
    if name not in known:
        raise ConfigError(f"--detector {name}: there is no such face detector; known: {', '.join(known)}")
    return known[name]()
