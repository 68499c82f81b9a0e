"""Two augmented views of every frame, for consistency between them (CORE: Ni et al., CVPRW 2022, section 3.2 and table 8).

Role 0 and role 1 are the same frame under two independent augmentations. Which ones is `recipe.views`:

* `re`: mirrored or not, then a random rectangle erased with probability 0.8 (the paper's in-dataset setting);
* `crop`: mirrored or not, a random part of at least 1/1.3 of the area, resized;
* `raaug`: one of nothing, `re` with certainty, and `crop`, mirrored or not (the paper's cross-dataset setting);
* `data_aug`: the `data_aug` keys, in the place of the paper's third setting (the DFDC winner's augmentations).
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from training.config.schema import Pair, Section
from training.dataset.augmentation import MIRROR
from training.dataset.recipes.recipe import FrameReader, Recipe, Sample, frame_draws, register_recipe


class ViewsOptions(Section):
    """What the two views go through."""

    views: Literal["re", "crop", "raaug", "data_aug"] = "raaug"
    erase_prob: float = Field(0.8, ge=0, le=1, description="with `re`")
    erase_area: Pair = Field([0.02, 0.20], description="limits of the erased share of the picture")
    erase_ratio: Pair = Field([0.5, 2.0], description="limits of the erased rectangle's width over height")
    crop_area: Pair = Field([1 / 1.3, 1.0], description="limits of the share of the picture that a crop keeps")
    crop_ratio: Pair = Field([0.9, 1.1], description="limits of a crop's width over height")


@register_recipe
class Views(Recipe):
    """A draw is (video, position)."""

    roles = 2
    Options = ViewsOptions

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        return frame_draws(self.index, self.frame_num)

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        video, position = map(int, draw)
        raw = reader.raw(video, position, self.config.with_landmark, self.config.with_mask)
        known = {**reader.labels(video), "frame": raw["frame"]}
        views = []
        for _ in range(self.roles):
            by_keys = self.options.views == "data_aug"
            view = raw if by_keys or rng is None else self.view(raw, rng)
            views.append({**reader.finish(view, reader.plan(rng) if by_keys else None), **known})
        return views

    def view(self, raw: Sample, rng: np.random.Generator) -> Sample:
        """Return one augmented copy of a stored frame with its mask and landmarks."""
        o = self.options
        kind = rng.choice(["none", "re", "crop"]) if o.views == "raaug" else o.views
        sample = mirror(raw) if rng.random() < 0.5 else raw
        if kind == "crop":
            return crop(sample, *rectangle(sample["image"], o.crop_area, o.crop_ratio, rng))
        if kind == "re" and (o.views == "raaug" or rng.random() < o.erase_prob):
            return erase(sample, *rectangle(sample["image"], o.erase_area, o.erase_ratio, rng))
        return sample


def rectangle(
    image: np.ndarray, area: list[float], ratio: list[float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of a random rectangle: share of the area, and width over height log-uniform."""
    height, width = image.shape[:2]
    wanted = rng.uniform(area[0], area[1]) * height * width
    shape = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
    w = int(np.clip(round(np.sqrt(wanted * shape)), 1, width))
    h = int(np.clip(round(np.sqrt(wanted / shape)), 1, height))
    return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h


def mirror(sample: Sample) -> Sample:
    """Return the sample seen in a mirror; landmarks keep their anatomical names."""
    done = {**sample, "image": cv2.flip(sample["image"], 1)}
    if "mask" in sample:
        done["mask"] = cv2.flip(sample["mask"], 1)
    if "landmark" in sample:
        points = sample["landmark"] * [-1, 1] + [sample["image"].shape[1] - 1, 0]
        done["landmark"] = points[MIRROR[: len(points)]].astype(np.float32)
    return done


def erase(sample: Sample, left: int, top: int, width: int, height: int) -> Sample:
    """Return the sample with a black rectangle in its image."""
    image = sample["image"].copy()
    image[top : top + height, left : left + width] = 0
    return {**sample, "image": image}


def crop(sample: Sample, left: int, top: int, width: int, height: int) -> Sample:
    """Return a part of the sample, resized to the whole's size."""
    full_height, full_width = sample["image"].shape[:2]
    part = slice(top, top + height), slice(left, left + width)
    full = (full_width, full_height)
    done = {**sample, "image": cv2.resize(sample["image"][part], full, interpolation=cv2.INTER_LINEAR)}
    if "mask" in sample:
        done["mask"] = cv2.resize(sample["mask"][part], full, interpolation=cv2.INTER_NEAREST)
    if "landmark" in sample:
        scale = [full_width / width, full_height / height]
        done["landmark"] = ((sample["landmark"] - [left, top]) * scale).astype(np.float32)
    return done
