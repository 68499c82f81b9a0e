"""The crop that the field's packs use: five points, a similarity transform, the ArcFace template, 30 % more room.

The five points (eyes, nose tip, mouth corners by the field's indices into the 68 or 81 landmarks) are moved onto the
112-pixel template of ArcFace (Deng et al., CVPR 2019) by the least-squares similarity of Umeyama (IEEE PAMI 13(4), 1991).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry import similarity

FIVE_POINTS = (37, 44, 30, 49, 55)
"""Rows of the landmarks that stand for left eye, right eye, nose, left and right mouth corner."""

_TEMPLATE_SIDE = 112.0
_TEMPLATE_SHIFT = 8.0  # the template was drawn for a 96-pixel wide image; this centres it in 112
_TEMPLATE = np.array(
    [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]]
)


def template(size: int = 256, scale: float = 1.3) -> NDArray[np.float64]:
    """Return where the five points belong in a crop of `size` pixels; `scale` 1.3 shows 30 % more than ArcFace does.

    Returns: (5, 2), x and y in crop pixels.
    """
    unit = (_TEMPLATE + np.array([_TEMPLATE_SHIFT, 0.0])) / _TEMPLATE_SIDE
    margin = (scale - 1) / 2
    return (unit + margin) / (1 + 2 * margin) * size


def similarity_to_template(landmarks: NDArray, size: int = 256, scale: float = 1.3) -> NDArray[np.float64]:
    """Return the 2x3 matrix from frame pixels to crop pixels for 68 or 81 landmarks of shape (N, 2)."""
    # The reference rounds the points to float32 pixels first; dlib's landmarks are whole pixels, so nothing is lost here.
    return similarity(np.asarray(landmarks, np.float64)[list(FIVE_POINTS)], template(size, scale))


def warp_points(points: NDArray, matrix: NDArray) -> NDArray[np.float64]:
    """Apply a 2x3 matrix to (N, 2) points."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def warp_image(image: NDArray, matrix: NDArray, size: int) -> NDArray:
    """Cut the (size, size) crop that `matrix` describes out of an image; outside is black."""
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)


def align(
    image: NDArray[np.uint8], landmarks: NDArray, size: int = 256, scale: float = 1.3
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Cut the aligned face.

    Args:
        image: (H, W, 3) uint8.
        landmarks: (68 or 81, 2) in pixels of the image.

    Returns:
        crop (size, size, 3) uint8 and the 2x3 matrix from image pixels to crop pixels.
    """
    matrix = similarity_to_template(landmarks, size, scale)
    return warp_image(image, matrix, size), matrix
