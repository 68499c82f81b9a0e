"""Putting one face into another picture: masks from landmarks, their deformation, alignment, colour and the blend itself.

Images are uint8 RGB `(H, W, 3)`, landmarks `(N, 2)` pixels (x, y), soft masks float32 `(H, W)` in [0, 1]. A mask is exact by
construction: where it is 0, the blend is the background, bit for bit.
"""

from __future__ import annotations

import contextlib

import cv2
import numpy as np

from common.errors import DataError
from common.geometry import similarity


def hull_mask(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return float32 ones inside the convex hull of landmarks, zeros outside."""
    mask = np.zeros((height, width), np.float32)
    hull = cv2.convexHull(np.ascontiguousarray(points, np.float32)).round().astype(np.int32)
    return cv2.fillConvexPoly(mask, hull, 1.0)


# Regions of a face by dlib's points; a mask is the union of their hulls. `r_[0:17]` is the jaw, 17 to 26 the brows, 27 to 35 the
# nose, 36 to 47 the eyes, 48 to 67 the mouth, from 68 on the forehead.
_WHOLE = (np.r_[0:17, 48:68], np.r_[27:31, 33], np.r_[0, 16, 17:28, 33])
_PARTS = (
    np.r_[0:9, 17], np.r_[8:17, 26],  # halves of the jaw, up to the outer ends of the brows
    np.r_[8, 17:20], np.r_[8, 24:27], np.r_[8, 19:25],  # cheeks and the middle, from the brows to the chin
    np.r_[8, 17:22, 27, 31:36], np.r_[8, 22:28, 31:36],  # eyes with the nose
    np.r_[27:36],
)  # fmt: skip
FACE_SHAPES = ("hull", "whole", "parts", "raised")


def face_mask(points: np.ndarray, shape: str, height: int, width: int) -> np.ndarray:
    """Return uint8 ones inside one of `FACE_SHAPES`, zeros outside.

    `hull`: of all landmarks; `whole`: lower face, nose ridge and brows; `parts`: cheeks, eyes and nose one by one; `raised`: the
    parts under brows that stand half a brow-to-eye distance higher. Points may lie outside the picture, on one line or on one
    spot; the mask may then be empty.
    """
    points = np.asarray(points, np.float64)
    if shape == "raised":
        points = points.copy()
        for brow, eye in ((slice(17, 22), slice(36, 42)), (slice(22, 27), slice(42, 48))):
            points[brow] += (points[brow].mean(0) - points[eye].mean(0)) / 2
    # OpenCV fills with 16-bit coordinates in mind; far outside is as good as just outside.
    points = points.clip(-4 * max(height, width), 5 * max(height, width)).round().astype(np.int32)
    regions = {"hull": (slice(None),), "whole": _WHOLE}.get(shape, _PARTS)
    mask = np.zeros((height, width), np.uint8)
    for region in regions:
        cv2.fillConvexPoly(mask, cv2.convexHull(points[region]), 1)
    return mask


def standard_face(height: int, width: int) -> np.ndarray:
    """Return uint8 ones where a face stands in an aligned crop: an ellipse. For crops whose landmarks are of no use."""
    mask = np.zeros((height, width), np.uint8)
    return cv2.ellipse(mask, (width // 2, height // 2), (int(0.3 * width), int(0.38 * height)), 0, 0, 360, 1, -1)


def elastic_field(noise: np.ndarray, height: int, width: int, sigma: float, alpha: float) -> np.ndarray:
    """Return shifts `(2, H, W)` in pixels: white noise of deviation 1/√3 per pixel, smoothed with σ, times α.

    Args:
        noise: `(2, h, w)` of standard normals on a grid that may be coarser than the picture: after smoothing, noise of
            h·w values with their deviation divided by the grid's step is the same as that of H·W, and far cheaper.
    """
    step = np.sqrt(height * width / (noise.shape[1] * noise.shape[2]))
    rough = noise * np.float32(alpha / (np.sqrt(3) * step))
    smooth = (cv2.GaussianBlur(part, (0, 0), sigma / step, borderType=cv2.BORDER_CONSTANT) for part in rough)
    return np.stack([cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR) for part in smooth])


def displace(mask: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Return a mask of zeros and ones moved by shifts `(2, H, W)`, still of zeros and ones."""
    height, width = mask.shape
    x = field[0] + np.arange(width, dtype=np.float32)
    y = field[1] + np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(mask, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def feather(mask: np.ndarray, shrink: int, blur: int, sigma: float) -> np.ndarray:
    """Return a soft mask, float32 in [0, 1] with a largest value of 1, of one of zeros and ones (uint8).

    It shrinks by the half of an odd square first, so that its soft edge lies inside where the hard one was; a mask that would
    vanish does not shrink. Then a Gaussian of an odd size `blur`.
    """
    smaller = cv2.erode(mask, np.ones((shrink, shrink), np.uint8), borderType=cv2.BORDER_REFLECT_101)
    soft = cv2.GaussianBlur((smaller if smaller.any() else mask).astype(np.float32), (blur, blur), sigma)
    return soft / max(float(soft.max()), 1e-6)


def deform(mask: np.ndarray, rng: np.random.Generator, strength: float, grid: int = 4) -> np.ndarray:
    """Return the mask moved by a random piecewise linear field.

    A grid × grid lattice of offsets, each uniform within ±strength of the image's size, is interpolated between its knots.
    """
    height, width = mask.shape
    offsets = rng.uniform(-strength, strength, (grid, grid, 2)).astype(np.float32)
    field = cv2.resize(offsets, (width, height), interpolation=cv2.INTER_LINEAR)
    x = np.arange(width, dtype=np.float32)[None] + field[..., 0] * width
    y = np.arange(height, dtype=np.float32)[:, None] + field[..., 1] * height
    return cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def soften(mask: np.ndarray, kernel: int) -> np.ndarray:
    """Return the mask after a Gaussian of an odd kernel size, in [0, 1]."""
    return cv2.GaussianBlur(mask, (kernel, kernel), 0).clip(0, 1)


def face_similarity(source: np.ndarray, target: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the similarity that takes landmarks to landmarks, of a scale from `low` to `high`.

    Landmarks in one point, mirrored or far outside give scales of nothing or of 10^9, and pictures of that size.

    Raises:
        DataError: there is none, or it is not within limits that a face's landmarks give.
    """
    matrix: np.ndarray = np.zeros((2, 3))
    with contextlib.suppress(ValueError):
        matrix = similarity(source, target)
    if not low <= np.hypot(*matrix[0, :2]) <= high:  # also where it is no number
        raise DataError(
            "its landmarks are no face (all in one point, mirrored or far outside the picture); run preprocess.py again, "
            "or leave such frames out with data.on_error=skip"
        )
    return matrix


def warp(image: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the image moved by a 2×3 matrix onto a canvas; what lies beyond its border is mirrored."""
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def match_colour(image: np.ndarray, reference: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return `image` with the colour mean and spread that `reference` has under the mask (Reinhard et al. 2001, in Lab)."""
    total = float(weight.sum())
    if total <= 0:
        return image
    pictures = [cv2.cvtColor(x, cv2.COLOR_RGB2LAB).astype(np.float32) for x in (image, reference)]
    share = (weight / total)[..., None]
    (mean, spread), (wanted_mean, wanted_spread) = (_moments(x, share) for x in pictures)
    moved = (pictures[0] - mean) * (wanted_spread / np.maximum(spread, 1e-3)) + wanted_mean
    return cv2.cvtColor(moved.round().clip(0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)


def _moments(picture: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = (picture * share).sum((0, 1))
    return mean, np.sqrt((np.square(picture - mean) * share).sum((0, 1)))


def blend(foreground: np.ndarray, background: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return M·F + (1 − M)·B, rounded to uint8."""
    alpha = np.ascontiguousarray(alpha, np.float32)
    # OpenCV divides by the sum of weights and a trifle; what it makes of a background of weight 1 still rounds to the background.
    return cv2.blendLinear(foreground, background, alpha, 1 - alpha)
