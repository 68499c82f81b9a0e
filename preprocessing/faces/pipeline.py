"""One face of one image: detect, landmarks, align. The predictor and the preprocessing of videos both go through here."""

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocessing.faces.alignment import align, warp_points
from preprocessing.faces.box import Box
from preprocessing.faces.detection import FaceDetector, build_face_detector
from preprocessing.faces.landmarks import LandmarkPredictor


@dataclass(frozen=True)
class Face:
    """An aligned face.

    Attributes:
        crop: (size, size, 3) uint8 RGB.
        landmarks: (81, 2) float32, pixels of the crop; the forehead may lie above it (negative y).
        matrix: (2, 3), from pixels of the frame to pixels of the crop.
        box: the detector's rectangle, pixels of the frame.
        frame: number of the frame in its video; 0 for an image.
        frame_size: (height, width) of the frame in pixels.
    """

    crop: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    matrix: NDArray[np.float64]
    box: Box
    frame: int = 0
    frame_size: tuple[int, int] = (0, 0)


class FacePipeline:
    """Find and cut faces with one detector and one landmark predictor (loaded once, some 100 MB).

    Args:
        detector: a name of `FINDERS` (`hog`, `mtcnn`, …) or an object with `detect`.
        predictor: landmark predictor file; None takes the 81-point file in dlib_tools, else the packaged 68-point one.
        size: side of the crop in pixels.
        scale: how much more than ArcFace's template the crop shows.
        detector_file: the network of a named detector that comes without one.

    Raises:
        DataError: no predictor file. ConfigError: unknown detector.
    """

    def __init__(
        self,
        detector: str | FaceDetector = "hog",
        predictor: str | os.PathLike | None = None,
        size: int = 256,
        scale: float = 1.3,
        detector_file: str | None = None,
    ):
        self.detector = build_face_detector(detector, detector_file) if isinstance(detector, str) else detector
        self.landmarks = LandmarkPredictor(predictor)
        self.size, self.scale = size, scale

    def crop(self, image: NDArray[np.uint8], frame: int = 0) -> Face | None:
        """Cut the largest face out of an (H, W, 3) RGB image; None when there is none."""
        boxes = self.detector.detect(image)
        return self.crop_box(image, boxes[0], frame) if boxes else None

    def crop_box(self, image: NDArray[np.uint8], box: Box, frame: int = 0) -> Face:
        """Cut the face in a known box."""
        points = self.landmarks(image, box)
        crop, matrix = align(image, points, self.size, self.scale)
        landmarks = warp_points(points, matrix).astype(np.float32)
        return Face(crop, landmarks, matrix, box, frame, (image.shape[0], image.shape[1]))
