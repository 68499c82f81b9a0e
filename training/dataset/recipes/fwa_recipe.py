"""FWA's training images: a real face whose own features went through a small picture (Li & Lyu, CVPRW 2019, section 3.1).

Forgeries are made at a limited resolution and warped onto the video's face, which leaves a difference of resolution between
the face and what surrounds it. That alone is imitated: the face is aligned to a standard face of a random small size,
blurred there, and warped back inside a mask. The mask is the hull of eyebrows, cheeks' inner points and mouth, moved at
random, or the square that the standard face fills. Role 0 is the real frame, role 1 the imitation; `mask` marks the pixels
that may differ. No forgery is seen in training.

What DeepfakeBench does otherwise: it detects the face again in every crop and leaves frames without a detection as they are.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from pydantic import Field, field_validator

from common.errors import DataError
from training.batch import Batch, Sample
from training.config.schema import Pair, Section
from training.dataset.recipes.blending import blend, deform, face_similarity, hull_mask, soften
from training.dataset.recipes.recipe import FrameReader, Recipe, frame_draws, register_recipe

# A standard face in a unit square, by dlib's points: outer eye corners, nose tip, mouth corners.
_POINTS = (36, 45, 30, 48, 54)
_STANDARD = np.array([[0.19, 0.24], [0.79, 0.24], [0.49, 0.52], [0.26, 0.78], [0.72, 0.78]])


class FwaOptions(Section):
    """How the small face is made."""

    scale: Pair = Field([0.2, 0.8], description="limits of the small face's size as a share of the face's own")
    blur: int = Field(5, ge=1, le=255, description="odd Gaussian kernel at the small size, pixels")
    polygon_prob: float = Field(0.5, ge=0, le=1, description="share of masks that follow the face instead of a square")
    deformation: float = Field(
        0.03, ge=0, le=0.5, description="largest shift of the polygon's lattice, share of the side"
    )
    feather: int = Field(
        1, ge=1, le=255, description="odd Gaussian kernel over the mask's edge; 1 is a hard edge, as the paper's"
    )

    @field_validator("blur", "feather")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"{value} is even; a Gaussian kernel has a middle")
        return value


@register_recipe
class FaceWarping(Recipe):
    """A draw is (video, position) of a real frame."""

    roles = 2
    makes_fakes = True
    Options = FwaOptions

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        rows = frame_draws(self.index, self.frame_num)
        rows = rows[self.index.label[rows[:, 0]] == 0] if len(rows) else rows
        if not len(rows):
            raise DataError("the recipe `fwa` needs real videos in the training split; add datasets to train_dataset")
        return rows

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        video, position = map(int, draw)
        if rng is None:
            raise DataError("the recipe `fwa` makes training images; evaluation reads frames")
        raw = reader.raw(video, position, landmark=True)
        try:
            warped, alpha = self.imitate(raw["image"], raw["landmark"], rng)
        except DataError as error:
            raise DataError(f"{reader.labels(video)['video']}, frame {raw['frame']}: {error}") from error
        real = {"image": raw["image"], "mask": np.zeros(alpha.shape, np.uint8)}
        fake = {"image": warped, "mask": (alpha > 0).astype(np.uint8)}
        known = {**reader.labels(video), "frame": raw["frame"]}
        return [
            {**reader.finish(real, reader.plan(rng)), **known},
            {**reader.finish(fake, reader.plan(rng)), **known, "label": 1, "method": -1},
        ]

    def imitate(self, image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the image with warping artifacts and the mask M `(H, W)`: exactly the image where M is 0.

        Raises:
            DataError: the landmarks are no face's.
        """
        height, width = image.shape[:2]
        side = max(height, width)
        to_unit = face_similarity(points[list(_POINTS)], _STANDARD, 1 / (8 * side), 20 / side)
        own_size = 1 / np.hypot(*to_unit[0, :2])  # pixels that the standard square covers here
        size = max(8, round(own_size * rng.uniform(*self.options.scale)))
        there = to_unit * size
        small = cv2.warpAffine(image, there, (size, size), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101)
        small = cv2.GaussianBlur(small, (self.options.blur, self.options.blur), 0)
        back = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        large = cv2.warpAffine(small, there, (width, height), flags=back, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(np.ones((size, size), np.float32), there, (width, height), flags=back)
        if rng.random() < self.options.polygon_prob:
            inner = hull_mask(points[17:68], height, width)
            mask = np.minimum(mask, deform(inner, rng, self.options.deformation))
        alpha = soften((mask > 0.5).astype(np.float32), self.options.feather)
        return blend(large, image, alpha), alpha

    def empty(self) -> Batch:
        size = self.config.resolution
        return {**super().empty(), "mask": torch.empty((0, 1, size, size), dtype=torch.uint8)}
