"""Falsify a film: replace a region of the real frame by one that was made elsewhere, and say exactly where.

Every method leaves what its real counterpart leaves: a generator's low resolution, a resampled grid, another noise, a colour
that almost fits, and a seam. Outside the mask a frame is the real one, bit for bit, until both are compressed alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.demo.identity import Identity
from preprocessing.demo.motion import Expression, Pose
from preprocessing.demo.surface import head_box_surface, project

Blend = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Recipe:
    """How one video is falsified; drawn once, so that a film's frames belong together.

    `shape`: region of the face. `feather`: width of its soft edge, pixels. `scale`: resolution at which the new face was
    made, as a share. `gain`: colour mismatch. `sharpen`: what was done against the softness. `shift`: sub-pixel misfit.
    """

    shape: str
    feather: float
    scale: float
    interpolation: int
    gain: tuple[float, float, float]
    sharpen: float
    shift: tuple[float, float]


def region_mask(person: Identity, pose: Pose, face: Expression, shape: str, size: tuple[int, int]) -> np.ndarray:
    """Return the region of a face as coverage `(H, W)` in {0, 1}: `oval`, `hull` (brows to chin) or `mouth`."""
    mask = np.zeros(size, np.uint8)
    if shape == "hull":
        outline = np.array(
            [[-0.52, -0.22], [-0.3, -0.34], [0, -0.3], [0.3, -0.34], [0.52, -0.22], [0.54, 0.2], [0.42, 0.6], [0.2, 0.84],
             [-0.2, 0.84], [-0.42, 0.6], [-0.54, 0.2]]
        )  # fmt: skip
        points = project(person, pose, face.mouth_open, outline * [person.width / 0.74, 1])
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
        return mask
    centre, reach = {"oval": ((0.0, 0.22), (0.56, 0.62)), "mouth": ((0.0, 0.58), (0.36, 0.27))}[shape]
    seen, box = head_box_surface(person, pose, face.mouth_open, size)
    inside = np.hypot((seen.u - centre[0]) / reach[0], (seen.v - centre[1]) / reach[1]) < 1
    mask[box[1] : box[3], box[0] : box[2]] = inside & (seen.distance < -0.02)
    return mask


def around(mask: np.ndarray, margin: int = 16) -> tuple[slice, slice]:
    """Return the rows and columns of a frame that a region (with room for the blends' blurs) takes part in."""
    left, top, width, height = cv2.boundingRect(mask)
    rows, columns = (max(0, top - margin), top + height + margin), (max(0, left - margin), left + width + margin)
    return slice(*rows), slice(*columns)


def opacity(mask: np.ndarray, feather: float) -> np.ndarray:
    """Return the alpha `(H, W)` of a region: 1 inside, falling to 0 at the mask's edge over `feather` pixels."""
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    return np.clip(distance / max(feather, 1e-3), 0, 1).astype(np.float32)


def degrade(face: np.ndarray, recipe: Recipe, noise: np.ndarray) -> np.ndarray:
    """Return the forged face as its generator would give it: low resolution, resampled, tinted, with its own noise."""
    height, width = face.shape[:2]
    small = cv2.resize(face, None, fx=recipe.scale, fy=recipe.scale, interpolation=cv2.INTER_AREA)
    small = cv2.resize(small, (width, height), interpolation=recipe.interpolation)
    if recipe.sharpen:
        small = small + recipe.sharpen * (small - cv2.GaussianBlur(small, (0, 0), 1.2))
    move = np.float32([[1, 0, recipe.shift[0]], [0, 1, recipe.shift[1]]])
    small = cv2.warpAffine(small, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return small * np.float32(recipe.gain) + noise


def match_colour(face: np.ndarray, real: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the face with the real frame's mean colour inside the mask, as every face-swapping program does it."""
    inside = mask > 0
    if not inside.any():
        return face
    return face * (real[inside].mean(axis=0) / np.maximum(face[inside].mean(axis=0), 1e-3)).astype(np.float32)


def alpha_blend(real: np.ndarray, forged: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay the forged face over the real frame."""
    return real + alpha[..., None] * (forged - real)


def poisson_blend(real: np.ndarray, forged: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Join the forged face's gradients to the real frame's border (Pérez et al., SIGGRAPH 2003)."""
    mask = (alpha > 0).astype(np.uint8) * 255
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return real
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    centre = (int(left + right) // 2, int(top + bottom) // 2)
    as_bytes = [np.ascontiguousarray((p.clip(0, 1) * 255).round().astype(np.uint8)) for p in (forged, real)]
    joined = cv2.seamlessClone(as_bytes[0], as_bytes[1], mask, centre, cv2.NORMAL_CLONE).astype(np.float32) / 255
    return np.where(mask[..., None] > 0, joined, real)


def multiband_blend(real: np.ndarray, forged: np.ndarray, alpha: np.ndarray, bands: int = 3) -> np.ndarray:
    """Blend low frequencies widely and high ones sharply (Burt & Adelson, 1983), inside the mask only."""
    inside = (alpha > 0).astype(np.float32)
    result = np.zeros_like(real)
    low_real, low_forged = real, forged
    for band in range(bands):
        last = band == bands - 1
        sigma = 1.5 * 2**band
        next_real = np.zeros_like(real) if last else cv2.GaussianBlur(real, (0, 0), sigma)
        next_forged = np.zeros_like(forged) if last else cv2.GaussianBlur(forged, (0, 0), sigma)
        soft = cv2.GaussianBlur(alpha, (0, 0), sigma) * inside
        result += (low_real - next_real) + soft[..., None] * ((low_forged - next_forged) - (low_real - next_real))
        low_real, low_forged = next_real, next_forged
    return np.where(inside[..., None] > 0, result, real).astype(np.float32)


BLENDS: dict[str, Blend] = {"alpha": alpha_blend, "poisson": poisson_blend, "multiband": multiband_blend}


def forge(
    real: np.ndarray, forged: np.ndarray, mask: np.ndarray, recipe: Recipe, blend: str, noise: np.ndarray
) -> np.ndarray:
    """Return the falsified frame; pixels where `mask` is 0 are exactly those of `real`.

    Args:
        real: the filmed frame `(H, W, 3)` float32, noise included. forged: clean rendering of the new face, same frame.
        mask: `(H, W)` in {0, 1}. blend: a key of BLENDS. noise: `(H, W, 3)` of the forged part.
    """
    made = degrade(match_colour(forged, real, mask), recipe, noise)
    result = BLENDS[blend](real, made, opacity(mask, recipe.feather))
    return np.where(mask[..., None] > 0, result, real).astype(np.float32)
