"""Putting one face into another picture: masks from landmarks, their deformation, alignment, colour and the blend itself.

Images are uint8 RGB `(H, W, 3)`, landmarks `(N, 2)` pixels (x, y), soft masks float32 `(H, W)` in [0, 1]. A mask is exact by
construction: where it is 0, the blend is the background, bit for bit.
"""

from __future__ import annotations

import cv2
import numpy as np

from common.errors import DataError


def hull_mask(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return float32 ones inside the convex hull of landmarks, zeros outside."""
    mask = np.zeros((height, width), np.float32)
    hull = cv2.convexHull(np.ascontiguousarray(points, np.float32)).round().astype(np.int32)
    return cv2.fillConvexPoly(mask, hull, 1.0)


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


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the 2×3 matrix of the least-squares rotation, scale and shift that takes points to points.

    In the plane this is one complex division (Umeyama 1991 without reflection).
    """
    a, b = (np.asarray(p, np.float64) @ [1, 1j] for p in (source, target))
    centred = a - a.mean()
    turn = np.vdot(centred, b - b.mean()) / max(np.vdot(centred, centred).real, 1e-12)
    shift = b.mean() - turn * a.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def checked_scale(matrix: np.ndarray, low: float, high: float) -> float:
    """Return the scale of a similarity; DataError where it is not within limits that a face's landmarks give.

    Landmarks in one point, mirrored or far outside give scales of nothing or of 10^9, and pictures of that size.
    """
    scale = float(np.hypot(*matrix[0, :2]))
    if not low <= scale <= high:  # also where it is no number
        raise DataError(
            "its landmarks are no face (all in one point, mirrored or far outside the picture); run preprocess.py again, "
            "or leave such frames out with data.on_error=skip"
        )
    return scale


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
    weight = alpha[..., None]
    mixed = background + weight * (foreground.astype(np.float32) - background)
    return mixed.round().clip(0, 255).astype(np.uint8)
