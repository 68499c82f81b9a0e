"""Where faces are in an image. Another detector is one class with `name` and `detect`."""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError
from preprocessing.faces.box import Box

FINDERS = {
    "hog": ("dlib_hog", "DlibHog"),
    "cnn": ("dlib_cnn", "DlibCnn"),
    "mtcnn": ("mtcnn", "Mtcnn"),
    "yunet": ("onnx_finders", "YuNet"),
    "scrfd": ("onnx_finders", "Scrfd"),
    "retinaface": ("onnx_finders", "RetinaFace"),
}
"""Name → module of this package and class."""

BY_FILE = ("yunet", "scrfd", "retinaface")
"""Finders whose network is a file of the user's."""


class FaceDetector(Protocol):
    """What the pipeline asks of a detector. One that has a `name` can be told apart in records of what made a crop."""

    def detect(self, image: NDArray[np.uint8], near: Box | None = None, smallest: float = 0.0) -> list[Box]:
        """Return the faces of an (H, W, 3) RGB image, largest first.

        Args:
            near: look only for faces of about that place and size.
            smallest: faces narrower than this many pixels need not be found (a hint that may save time).
        """
        ...


def build_face_detector(name: str = "hog", file: str | None = None) -> FaceDetector:
    """Return a finder by its name in `FINDERS`; `file` is the network of those in `BY_FILE`.

    Raises:
        ConfigError: no such name, a file that is missing or not wanted. DataError: the file or a package is not there.
    """
    if name not in FINDERS:
        raise ConfigError(f"--detector {name}: there is no such face detector; known: {', '.join(FINDERS)}")
    module, kind = FINDERS[name]
    made = getattr(import_module(f"preprocessing.faces.{module}"), kind)
    if name in BY_FILE:
        return made(file)
    if file:
        raise ConfigError(
            f"--detector_file goes with {', '.join(BY_FILE)}; --detector {name} has its own network, so leave it out"
        )
    return made()


def finder_settings(detector: Any) -> dict[str, str]:
    """Return what tells a finder from another: its `name` (else its class's) and the name of its network's file, if any."""
    file = getattr(detector, "file", None)
    said = {"finder": str(getattr(detector, "name", "") or type(detector).__name__)}
    return said | ({"finder_file": Path(file).name} if file else {})
