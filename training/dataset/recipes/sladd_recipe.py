"""Pairs for a synthesiser that learns what to forge (Chen et al., CVPR 2022, section 3.1): the target, another's face, and the
parts of a face that can be taken from it.

A draw is a frame, the target, and another frame, the reference: of the other class (`reference: other`), so that a real face
meets a fake one and a fake meets a real one, or any (`any`; so too where there is one class only). Every epoch takes all real
frames and as many fake ones (`balance`). The target is `image`, with its own label and forgery mask. What the network needs to
forge the target as it chooses comes beside it, so that no picture is painted while it computes:

=========== =================== ============================================================================================
`reference` (B, 3, H, W) uint8  the reference as it is
`source`    (B, 3, H, W) uint8  the reference moved onto the target's landmarks, in the target's colours
`parts`     (B, 5, H, W) uint8  soft masks of left eye, right eye, band of both eyes, nose and mouth, 255 is 1
`chance`    (B, 2) float32      uniform numbers of the sample, by which region and blending are drawn
=========== =================== ============================================================================================

Masks are strokes between landmarks, deformed elastically, then eroded, dilated or left, then softened, alike for all parts of a
sample. Landmarks follow augmentation, which both frames go through before.

What differs from the paper's code: colours are matched in one way instead of one of four; a smooth elastic deformation instead of
a piecewise affine one. A fake target's source is prepared too, though nobody forges it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import cv2
import numpy as np
import torch
from pydantic import Field

from common.errors import DataError
from training.batch import Batch, Sample
from training.config.schema import NonNegative, Positive, Section
from training.dataset.recipes.blending import (
    displace,
    elastic_field,
    face_similarity,
    hull_mask,
    match_colour,
    soften,
    warp,
)
from training.dataset.recipes.recipe import FrameReader, Recipe, frame_draws, register_recipe
from training.dataset.sampling import draws_rng

# Cells of the noise's grid along a side, as in self-blended images.
_GRID = 72
# By dlib's points: the ends of a stroke, each the mean of some, and its half width as a share of the stroke's length (for the
# nose of the distance between the eyes).
_EYES = ((36, 39), (42, 45))
STROKES = {
    "left eye": ((36,), (39,), 1.0),
    "right eye": ((42,), (45,), 1.0),
    "eyes": (_EYES[0], _EYES[1], 0.25),
    "nose": ((36, 39, 42, 45), (33,), 0.25),
    "mouth": ((48,), (54,), 1 / 3),
}
PARTS = len(STROKES)

Sizes = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


class SladdOptions(Section):
    """Who meets whom, and how masks are made; sizes are pixels of a 256-pixel crop."""

    reference: Literal["other", "any"] = Field("other", description="of the other class, or any other frame")
    balance: bool = Field(True, description="as many fake targets as real ones, others in every epoch")
    elastic_alpha: NonNegative = Field(50.0, description="strength of the masks' deformation")
    elastic_sigma: Positive = Field(7.0, description="its smoothness")
    grow: Sizes = Field([3, 19], description="limits of the square by which masks shrink or grow, each in three of ten")
    blur: Sizes = Field([1, 17], description="limits of their Gaussian's size")


@register_recipe
class Sladd(Recipe):
    """Targets, each with what could be forged into it."""

    makes_fakes = True
    Options = SladdOptions

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        """Return rows (video, position, video of the reference, its position)."""
        index, rng = self.index, draws_rng(seed, epoch)
        rows = self._targets(rng)
        if not len(rows) or len(np.unique(rows[:, 0])) < 2:
            raise DataError("the recipe `sladd` needs two videos in the training split; add datasets to train_dataset")
        label = index.label[rows[:, 0]]
        partner = np.empty(len(rows), np.int64)
        both = self.options.reference == "other" and len(np.unique(label)) == 2
        for kind in (0, 1):
            mine = np.flatnonzero(label == kind)
            pool = np.flatnonzero(label != kind) if both else np.arange(len(rows))
            partner[mine] = pool[rng.integers(len(pool), size=len(mine))]
        # Nobody is forged with another frame of the same video: the next video's first row instead.
        alike = rows[partner, 0] == rows[:, 0]
        following = np.searchsorted(rows[:, 0], rows[:, 0], side="right") % len(rows)
        partner[alike] = following[alike]
        return np.column_stack([rows, rows[partner]]).astype(np.int32)

    def _targets(self, rng: np.random.Generator) -> np.ndarray:
        """Return `(N, 2)` rows (video, position), by video."""
        rows = frame_draws(self.index, self.frame_num)
        fake = self.index.label[rows[:, 0]] == 1
        if not self.options.balance or not 0 < (~fake).sum() < fake.sum():
            return rows
        kept = rng.choice(np.flatnonzero(fake), (~fake).sum(), replace=False)
        return rows[np.sort(np.concatenate([np.flatnonzero(~fake), kept]))]

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        video, position, other, other_position = map(int, draw)
        if rng is None:
            raise DataError("the recipe `sladd` makes training images; evaluation reads frames")
        raw = reader.raw(video, position, landmark=True, mask=True)
        target = reader.finish(raw, reader.plan(rng))
        reference = reader.finish(reader.raw(other, other_position, landmark=True), reader.plan(rng))
        try:
            source, parts = self.prepare(target, reference, rng)
        except DataError as error:
            first, second = (reader.labels(v)["video"] for v in (video, other))
            raise DataError(f"{first}, frame {raw['frame']}, with the face of {second}: {error}") from error
        sample = {key: value for key, value in target.items() if key != "landmark" or self.config.with_landmark}
        made = {"reference": _first(reference["image"]), "source": _first(source), "parts": parts}
        return [
            {
                **sample,
                **reader.labels(video),
                "frame": raw["frame"],
                **made,
                "chance": rng.random(2, dtype=np.float32),
            }
        ]

    def prepare(self, target: Sample, reference: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the reference as it would stand in the target, uint8 `(H, W, 3)`, and masks of parts, uint8 `(5, H, W)`.

        Raises:
            DataError: the landmarks of one of the two are no face's.
        """
        height, width = target["image"].shape[:2]
        points = target["landmark"][:68]
        onto = face_similarity(reference["landmark"][:68], points, 1 / 20, 20)
        moved = warp(reference["image"], onto, width, height)
        source = match_colour(moved, target["image"], hull_mask(points, height, width))
        return source, self.parts(points, height, width, rng)

    def parts(self, points: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the masks of a face's parts, uint8 `(5, H, W)`, 255 where a part is wholly taken."""
        o, scale = self.options, width / 256
        noise = rng.standard_normal((2, _GRID, _GRID), dtype=np.float32)
        field = elastic_field(noise, height, width, o.elastic_sigma * scale, o.elastic_alpha * scale)
        choice, grow, blur = rng.random(), rng.uniform(*o.grow) * scale, rng.uniform(*o.blur) * scale
        change = {0: cv2.erode, 1: cv2.dilate}.get(int(choice / 0.3))
        kernel = np.ones((int(grow) | 1,) * 2, np.uint8)
        made = []
        for mask in part_masks(points, height, width):
            moved = displace(mask, field)
            if change is not None:
                changed = change(moved, kernel)
                moved = changed if changed.any() else moved
            made.append(soften(moved.astype(np.float32), int(blur) | 1))
        return (np.stack(made) * 255).round().astype(np.uint8)

    def empty(self) -> Batch:
        size, batch = self.config.resolution, super().empty()
        batch["mask"] = torch.empty((0, 1, size, size), dtype=torch.uint8)
        for key, channels in (("reference", 3), ("source", 3), ("parts", PARTS)):
            batch[key] = torch.empty((0, channels, size, size), dtype=torch.uint8)
        batch["chance"] = torch.empty((0, 2))
        return batch


def part_masks(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return uint8 `(5, H, W)`, ones on the strokes of `STROKES`: thick lines between landmarks, round at their ends."""
    eyes = np.linalg.norm(points[list(_EYES[0])].mean(0) - points[list(_EYES[1])].mean(0))
    masks = np.zeros((PARTS, height, width), np.uint8)
    for mask, (name, (begin, end, share)) in zip(masks, STROKES.items(), strict=True):
        ends = [points[list(each)].mean(0).clip(-4 * width, 5 * width) for each in (begin, end)]
        length = eyes if name == "nose" else np.linalg.norm(ends[0] - ends[1])
        first, last = (tuple(int(value) for value in each.round()) for each in ends)
        thick = int(np.clip(2 * round(share * length), 1, 4 * max(height, width)))
        cv2.line(mask, first, last, 1, thick)
    return masks


def _first(image: np.ndarray) -> np.ndarray:
    """Return an image `(H, W, 3)` with its channels first."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))
