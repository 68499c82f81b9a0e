"""Face X-ray's training images: a real face blended into another person's picture (Li et al., CVPR 2020, section 3.2).

A draw is a real frame, the background. The foreground is one of the real faces of other people that stand most like it
(`training/dataset/generate_xray_nearest.py`), moved onto its landmarks. The mask is the hull of the background's landmarks,
deformed and softened at random; the foreground takes the background's colours under it. Role 0 is the untouched background,
role 1 the blend; `mask` marks every pixel that may differ, and `xray` is 4·M·(1 − M) of the soft mask M.

What DeepfakeBench does otherwise: half of its foregrounds are warped with a 3-D model instead of a similarity, and its soft
mask falls off linearly from the hull's edge.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from training.batch import Sample
from training.config.schema import Pair
from training.dataset.recipes.blending import (
    blend,
    deform,
    face_similarity,
    hull_mask,
    match_colour,
    soften,
    warp,
)
from training.dataset.recipes.partners import PartnerOptions, PartnerRecipe
from training.dataset.recipes.recipe import register_recipe


class FaceXrayOptions(PartnerOptions):
    """How partners are chosen and masks are made."""

    deformation: float = Field(
        0.04, ge=0, le=0.5, description="largest shift of the mask's 4×4 lattice, share of the side"
    )
    blur: Pair = Field([5, 45], description="limits of the mask's Gaussian kernel, pixels of a 256-pixel crop")


@register_recipe
class FaceXray(PartnerRecipe):
    """Blends whose boundary is known."""

    Options = FaceXrayOptions
    tells = "xray"

    def mix(self, background: Sample, foreground: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image, points = background["image"], background["landmark"]
        height, width = image.shape[:2]
        low, high = (limit * width / 256 for limit in self.options.blur)
        mask = deform(hull_mask(points, height, width), rng, self.options.deformation)
        alpha = soften(mask, max(3, int(rng.uniform(low, high)) | 1))
        onto = face_similarity(foreground["landmark"][:68], points[:68], 1 / 20, 20)
        moved = warp(foreground["image"], onto, width, height)
        return blend(match_colour(moved, image, alpha), image, alpha), alpha

    def told(self, alpha: np.ndarray) -> np.ndarray:
        return 4 * alpha * (1 - alpha)
