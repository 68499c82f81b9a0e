"""81 landmarks of a face: the 81-point predictor where its file is given, else 68 points and an extrapolated forehead."""

import importlib.util
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from preprocessing.faces.box import Box

PREDICTOR_81 = Path(__file__).parents[1] / "dlib_tools" / "shape_predictor_81_face_landmarks.dat"
_FILE_68 = "models/shape_predictor_68_face_landmarks.dat"

_FOREHEAD = (77, 75, 76, 68, 69, 70, 71, 80, 72, 73, 79, 74, 78)
"""The 13 forehead points of the 81-point model along the hairline, from the left temple in the image to the right."""


def find_predictor(path: str | os.PathLike | None = None) -> Path:
    """Return the predictor file to use: the one given, the 81-point file in dlib_tools, or the packaged 68-point file.

    Raises:
        DataError: the file given does not exist, or none of the others does.
    """
    if path is not None:
        if not Path(path).is_file():
            raise DataError(
                f"no landmark predictor at {path}; see preprocessing/dlib_tools/README.md for where to get one"
            )
        return Path(path)
    if PREDICTOR_81.is_file():
        return PREDICTOR_81
    # The package itself needs the removed pkg_resources to import; only its data files are wanted.
    spec = importlib.util.find_spec("face_recognition_models")
    packaged = Path(spec.origin).parent / _FILE_68 if spec and spec.origin else None
    if packaged is None or not packaged.is_file():
        raise DataError(
            f"no landmark predictor: neither {PREDICTOR_81} nor the package face_recognition_models is there; "
            "put the file there or install the package"
        )
    return packaged


class LandmarkPredictor:
    """dlib's regression trees (Kazemi & Sullivan, CVPR 2014), always answering with 81 points.

    Attributes:
        extrapolated: the forehead (rows 68-80) is computed from the other points, because the file knows only 68.
    """

    def __init__(self, path: str | os.PathLike | None = None):
        import dlib

        self.path = find_predictor(path)
        try:
            self._predict = dlib.shape_predictor(str(self.path))
        except RuntimeError as error:
            raise DataError(f"{self.path} is not a dlib shape predictor ({error}); download it again") from error
        self._rectangle = dlib.rectangle
        count = self._predict(np.zeros((64, 64), np.uint8), dlib.rectangle(8, 8, 56, 56)).num_parts
        if count not in (68, 81):
            raise DataError(f"{self.path} predicts {count} points; a predictor of 81 or 68 points is needed")
        self.extrapolated = count == 68

    def __call__(self, image: NDArray[np.uint8], box: Box) -> NDArray[np.float32]:
        """Return the (81, 2) landmarks of the face in `box`, in pixels of the (H, W, 3) RGB image."""
        rectangle = self._rectangle(*(round(value) for value in box[:4]))
        shape = self._predict(image, rectangle)
        points = np.array([(point.x, point.y) for point in shape.parts()], np.float32)
        return np.concatenate([points, forehead(points)]) if self.extrapolated else points


def forehead(points: NDArray) -> NDArray[np.float32]:
    """Extrapolate the 13 forehead points from 68 landmarks, in the order of the 81-point model.

    They lie on the upper half of an ellipse from temple to temple whose height follows the rule of thirds in
    portraiture: from brows to hairline is as far as from brows to the base of the nose.

    Args:
        points: (68, 2).

    Returns: (13, 2).
    """
    left, right = points[0], points[16]
    brows, nose = points[17:27].mean(0), points[33]
    centre = (left + right) / 2
    across = (right - left) / 2
    up = brows - nose
    up = up - across * (up @ across) / max(float(across @ across), 1e-6)
    # Brows stand above the line between the temples; the arc's height counts from that line.
    lift = brows - centre
    norm = float(np.linalg.norm(up))
    height = up / max(norm, 1e-6) * (norm + max(0.0, float(lift @ up) / max(norm, 1e-6)))
    angles = np.linspace(np.pi * 11 / 12, np.pi / 12, 13)
    arc = centre + np.cos(angles)[:, None] * across + np.sin(angles)[:, None] * height
    ordered = np.empty((13, 2), np.float32)
    ordered[np.array(_FOREHEAD) - 68] = arc
    return ordered
