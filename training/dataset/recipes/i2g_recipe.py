"""The inconsistency image generator: a real face in another person's picture, with how much of each pixel is whose
(Zhao et al., ICCV 2021, section 3.2).

A draw is a real frame, the background. The foreground is one of the real faces of other people that stand most like it, moved
onto its landmarks and brought to its colours. The mask is the hull of the background's landmarks, deformed elastically, shrunk
and softened at random. Role 0 is the untouched background, role 1 the blend; `mask` marks every pixel that may differ, all
others are the background's, bit for bit, and `blend` is the soft mask M that was blended with (0 everywhere for role 0).

What differs from the paper: augmentation is `data_aug`'s, without noise and erasing. What DeepfakeBench does otherwise: masks of
several shapes (`shapes`); the foreground stays where it was instead of being moved onto the background's landmarks; pictures that
cannot be read are replaced by the first one.
"""

from __future__ import annotations

from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import Field

from training.batch import Sample
from training.config.schema import NonNegative, Pair, Positive
from training.dataset.recipes.blending import (
    blend,
    displace,
    elastic_field,
    face_mask,
    face_similarity,
    feather,
    match_colour,
    standard_face,
    warp,
)
from training.dataset.recipes.partners import PartnerOptions, PartnerRecipe
from training.dataset.recipes.recipe import register_recipe

# Cells of the noise's grid along a side, as in self-blended images.
_GRID = 72
# A mask below this share of the picture is no face.
_SMALLEST = 0.005

Shapes = Annotated[list[Literal["hull", "whole", "parts", "raised"]], Field(min_length=1)]
Sizes = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


class I2gOptions(PartnerOptions):
    """How masks are made; sizes are pixels of a 256-pixel crop."""

    shapes: Shapes = Field(["hull"], description="of the mask, one is drawn; see blending.FACE_SHAPES")
    elastic_alpha: NonNegative = Field(50.0, description="strength of the mask's deformation")
    elastic_sigma: Positive = Field(7.0, description="its smoothness")
    kernels: Sizes = Field([5, 25], description="limits of the sizes by which the mask shrinks, and of its Gaussian")
    sigma: Pair = Field([5.0, 45.0], description="limits of that Gaussian's σ")


@register_recipe
class InconsistentImages(PartnerRecipe):
    """Blends of two sources, with how much of each pixel is whose."""

    Options = I2gOptions
    tells = "blend"

    def mix(self, background: Sample, foreground: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image, points = background["image"], background["landmark"]
        height, width = image.shape[:2]
        onto = face_similarity(foreground["landmark"][:68], points[:68], 1 / 20, 20)
        alpha = self.mask(points, height, width, rng)
        # Only what the mask covers is moved and blended: the rest cannot change.
        x, y, w, h = cv2.boundingRect((alpha > 0).astype(np.uint8))
        window = np.s_[y : y + h, x : x + w]
        moved = warp(foreground["image"], onto - [[0, 0, x], [0, 0, y]], w, h)
        mixed = image.copy()
        mixed[window] = blend(match_colour(moved, image[window], alpha[window]), image[window], alpha[window])
        return mixed, alpha

    def mask(self, points: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a soft mask, float32 `(H, W)` in [0, 1], for a face's landmarks."""
        o, part = self.options, width / 256
        shape = o.shapes[int(rng.integers(len(o.shapes)))]
        noise = rng.standard_normal((2, _GRID, _GRID), dtype=np.float32)
        field = elastic_field(noise, height, width, o.elastic_sigma * part, o.elastic_alpha * part)
        hard = displace(face_mask(points, shape, height, width), field)
        if hard.mean() < _SMALLEST:
            hard = displace(standard_face(height, width), field)
        low, high = o.kernels
        shrink, blur = (_odd(kernel * part) for kernel in rng.uniform(low, high, 2))
        return feather(hard, shrink, blur, rng.uniform(*o.sigma) * part)

    def told(self, alpha: np.ndarray) -> np.ndarray:
        return alpha


def _odd(size: float) -> int:
    return max(3, int(size) | 1)
