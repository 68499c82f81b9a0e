"""Self-blended images: a real face blended into itself (Shiohara & Yamasaki, CVPR 2022, section 3).

A forgery shows two things, whatever made it: a border where a face was blended in, and statistics that differ on either side.
Both are imitated with one real picture. Of two copies one, the source or the target, takes another look (colour, light,
sharpness); the source is shifted and scaled a little; a mask is drawn from its landmarks in one of several shapes, deformed
elastically, shrunk and softened; and the source is blended into the target with that mask times a ratio from {0.25, 0.5, 0.75,
1, 1, 1}. Role 0 is the target, role 1 the blend; `mask` marks every pixel that may differ, all others are the target's, bit
for bit. What `data_aug` does is drawn once for both, and so is a look that both take afterwards.

With `real_fakes` that share of the pairs is a real frame and a frame of a forged video instead, of the same person where
there is one; their `mask` is the recorded one, or empty.

What differs from the paper: crops are the ones that were stored instead of random margins around the landmarks; the published
code's hue, saturation and value shifts are 0.3 of a level, which rounds to nothing, here they can be seen. Where landmarks give
no mask (on one line, outside the picture) the place of a face in an aligned crop is taken; the published code takes another
picture. What DeepfakeBench does otherwise: frames without a usable blend are replaced by others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
import torch
from pydantic import Field

from common.errors import DataError
from training.batch import Batch, Sample
from training.config.schema import NonNegative, Pair, Positive, Probability, Section
from training.dataset.recipes.blending import (
    FACE_SHAPES,
    blend,
    displace,
    elastic_field,
    face_mask,
    feather,
    standard_face,
    warp,
)
from training.dataset.recipes.look import Look, LookLimits, apply_look, draw_look
from training.dataset.recipes.recipe import FrameReader, Recipe, frame_draws, register_recipe
from training.dataset.sampling import draws_rng, place

# Cells of the noise's grid along a side: with σ = 7 of 256 pixels one is half a σ.
_GRID = 72
# A mask below this share of the picture is no face.
_SMALLEST = 0.005

Sizes = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


def _shared() -> LookLimits:
    return LookLimits(rgb_prob=0.3, hsv_prob=0.3, light_prob=0.3, brightness=0.3, contrast=0.3)


class SbiOptions(Section):
    """What the paper and its code draw."""

    look: LookLimits = Field(default_factory=LookLimits, description="of the source or the target")
    shared: LookLimits = Field(default_factory=_shared, description="of both alike; part of the augmentation")
    sharpen: Pair = Field([0.2, 0.5], description="weight of sharpening, where resolution is not lowered instead")
    forehead_prob: Probability = Field(0.75, description="share of masks that reach up to the forehead's landmarks")
    translate: Pair = Field([0.03, 0.015], description="largest shift of the source in x and y, share of the side")
    scale: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="least scale of the source; 1 / it is the most"
    )
    sides: Sizes = Field(
        [192, 256], description="limits of the mask's sides while it is made, whatever the picture's are"
    )
    elastic_alpha: NonNegative = Field(50.0, description="strength of the mask's deformation, as of 256 pixels")
    elastic_sigma: Positive = Field(7.0, description="its smoothness, as of 256 pixels")
    kernels: Sizes = Field(
        [5, 25], description="limits of the odd sizes by which the mask shrinks, and of its Gaussian"
    )
    sigma: Pair = Field([5.0, 45.0], description="limits of that Gaussian's σ")
    ratios: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)] = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    real_fakes: Probability = Field(0.0, description="share of pairs whose fake is a frame of a forged video")


@dataclass(frozen=True)
class Choice:
    """Everything random about one blend.

    Attributes:
        shape: of `FACE_SHAPES`. forehead: whether the mask uses landmarks from 68 on. on_source: who takes the look.
        look: the look. move: 2×3, where a pixel of the source goes. size: height and width that the mask is made at.
        noise: of the elastic deformation, `(2, 72, 72)`. shrink, blur, sigma: see `feather`. ratio: of the blend.
    """

    shape: str
    forehead: bool
    on_source: bool
    look: Look
    move: np.ndarray
    size: tuple[int, int]
    noise: np.ndarray
    shrink: int
    blur: int
    sigma: float
    ratio: float


@register_recipe
class SelfBlending(Recipe):
    """A draw is (video, position, fake video, position): a real frame, and its fake where that is not made here (else −1, −1)."""

    roles = 2
    makes_fakes = True
    Options = SbiOptions

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        rows = frame_draws(self.index, self.frame_num)
        rows = rows[self.index.label[rows[:, 0]] == 0] if len(rows) else rows
        if not len(rows):
            raise DataError("the recipe `sbi` needs real videos in the training split; add datasets to train_dataset")
        fakes = np.full_like(rows, -1)
        chosen = draws_rng(seed, epoch).permutation(len(rows))[: round(self.options.real_fakes * len(rows))]
        if len(chosen):
            fakes[chosen] = self._forgeries(rows[chosen], draws_rng(seed, epoch + (1 << 20)))
        return np.hstack([rows, fakes])

    def _forgeries(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return for real frames a frame of a forged video each, at the same share of it; of the same person if there is one."""
        index = self.index
        forged = np.flatnonzero(index.label == 1)
        if not len(forged):
            raise DataError("recipe.real_fakes needs fake videos in the training split; add datasets, or set it to 0")
        videos = rng.choice(forged, len(rows))
        by_person: dict[int, np.ndarray] = {
            person: forged[index.target[forged] == person] for person in np.unique(index.target[forged]) if person >= 0
        }
        for number, person in enumerate(index.target[rows[:, 0]].tolist()):
            if person in by_person:
                videos[number] = rng.choice(by_person[person])
        steps = np.maximum(index.frames[rows[:, 0]], 1)
        return np.column_stack([videos, place(rows[:, 1], index.frames[videos], steps)])

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        video, position, fake_video, fake_position = map(int, draw)
        if rng is None:
            raise DataError("the recipe `sbi` makes training images; evaluation reads frames")
        raw = reader.raw(video, position, landmark=True)
        plan = reader.plan(rng)
        shared = draw_look(self.options.shared, rng) if plan is not None else Look()
        known = {**reader.labels(video), "frame": raw["frame"]}
        real = {"image": raw["image"], "mask": np.zeros(raw["image"].shape[:2], np.uint8), "landmark": raw["landmark"]}
        if fake_video < 0:
            target, mixed, alpha = self.mix(raw["image"], raw["landmark"], self.choose(rng, *raw["image"].shape[:2]))
            real["image"] = target
            fake = {"image": mixed, "mask": (alpha > 0).astype(np.uint8), "landmark": raw["landmark"]}
            about = {**known, "label": 1, "method": -1}
        else:
            fake = reader.raw(fake_video, fake_position, landmark=self.config.with_landmark, mask=True)
            about = {**reader.labels(fake_video), "frame": fake["frame"]}
        samples = []
        for sample, labels in ((real, known), (fake, about)):
            if not self.config.with_landmark:
                sample.pop("landmark", None)
            sample["image"] = apply_look(sample["image"], shared)
            samples.append({**reader.finish(sample, plan), **labels})
        return samples

    def choose(self, rng: np.random.Generator, height: int, width: int) -> Choice:
        """Draw everything about one blend of a picture of that size."""
        o = self.options
        part = rng.random(9).tolist()
        odd = [o.kernels[0] // 2 + int(p * (o.kernels[1] // 2 - o.kernels[0] // 2 + 1)) for p in part[:2]]
        scale = o.scale + part[2] * (1 / o.scale - o.scale)
        # The scale leaves the middle where it is, the shift then moves it.
        right, down = (
            (2 * p - 1) * most * side + (1 - scale) * (side - 1) / 2
            for p, most, side in zip(part[3:5], o.translate, (width, height))
        )
        return Choice(
            shape=FACE_SHAPES[int(rng.integers(len(FACE_SHAPES)))],
            forehead=part[5] < o.forehead_prob,
            on_source=part[6] < 0.5,
            look=draw_look(o.look, rng, o.sharpen),
            move=np.array([[scale, 0, right], [0, scale, down]]),
            size=tuple(rng.integers(o.sides[0], o.sides[1] + 1, 2).tolist()),  # type: ignore[arg-type]
            noise=rng.standard_normal((2, _GRID, _GRID), dtype=np.float32),
            shrink=2 * odd[0] + 1,
            blur=2 * odd[1] + 1,
            sigma=o.sigma[0] + part[7] * (o.sigma[1] - o.sigma[0]),
            ratio=o.ratios[int(part[8] * len(o.ratios))],
        )

    def mix(self, image: np.ndarray, points: np.ndarray, c: Choice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the target, its blend, and the soft mask M `(H, W)`: where M is 0, the two are the same."""
        height, width = image.shape[:2]
        changed = apply_look(image, c.look)
        source, target = (changed, image) if c.on_source else (image, changed)
        alpha = (
            cv2.resize(self.mask(points, c, height, width), (width, height), interpolation=cv2.INTER_LINEAR) * c.ratio
        )
        # Only what the mask covers is moved and blended: half of the work, and the rest cannot change.
        x, y, w, h = cv2.boundingRect((alpha > 0).astype(np.uint8))
        window = np.s_[y : y + h, x : x + w]
        moved = warp(source, c.move - [[0, 0, x], [0, 0, y]], w, h)
        mixed = target.copy()
        mixed[window] = blend(moved, target[window], alpha[window])
        return target, mixed, alpha

    def mask(self, points: np.ndarray, c: Choice, height: int, width: int) -> np.ndarray:
        """Return the soft mask of `c.size` for landmarks in a picture of height × width, before the blend's ratio."""
        own_height, own_width = c.size
        moved = (points if c.forehead else points[:68]) @ c.move[:, :2].T + c.move[:, 2]
        moved = (moved + 0.5) * [own_width / width, own_height / height] - 0.5
        part = own_width / 256
        alpha, sigma = self.options.elastic_alpha * part, self.options.elastic_sigma * part
        field = elastic_field(c.noise, own_height, own_width, sigma, alpha)
        hard = displace(face_mask(moved, c.shape, own_height, own_width), field)
        if hard.mean() < _SMALLEST:
            hard = displace(standard_face(own_height, own_width), field)
        return feather(hard, c.shrink, c.blur, c.sigma)

    def empty(self) -> Batch:
        size = self.config.resolution
        return {**super().empty(), "mask": torch.empty((0, 1, size, size), dtype=torch.uint8)}
