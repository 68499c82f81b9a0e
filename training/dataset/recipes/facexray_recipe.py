"""Face X-ray's training images: a real face blended into another person's picture (Li et al., CVPR 2020, section 3.2).

A draw is a real frame, the background. The foreground is one of the real faces of other people that stand most like it
(`training/dataset/generate_xray_nearest.py`), moved onto its landmarks. The mask is the hull of the background's landmarks,
deformed and softened at random; the foreground takes the background's colours under it. Role 0 is the untouched background,
role 1 the blend; `mask` marks every pixel that may differ, and `xray` is 4·M·(1 − M) of the soft mask M.

What DeepfakeBench does otherwise: half of its foregrounds are warped with a 3-D model instead of a similarity, and its soft
mask falls off linearly from the hull's edge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from common.errors import DataError
from training.batch import Batch, Sample
from training.config.schema import Config, Pair, Section
from training.dataset.index.selection import Index
from training.dataset.recipes.blending import (
    blend,
    deform,
    face_similarity,
    hull_mask,
    match_colour,
    soften,
    warp,
)
from training.dataset.recipes.nearest import Neighbours, cached_neighbours
from training.dataset.recipes.recipe import FrameReader, Recipe, frame_draws, register_recipe
from training.dataset.storage import open_storage


class FaceXrayOptions(Section):
    """How partners are chosen and masks are made."""

    nearest: str | None = Field(
        None, description=".npz of generate_xray_nearest.py; null: made and kept beside the index"
    )
    neighbours: int = Field(100, ge=1, description="the partner is one of so many nearest faces")
    deformation: float = Field(
        0.04, ge=0, le=0.5, description="largest shift of the mask's 4×4 lattice, share of the side"
    )
    blur: Pair = Field([5, 45], description="limits of the mask's Gaussian kernel, pixels of a 256-pixel crop")


@register_recipe
class FaceXray(Recipe):
    """A draw is (video, position, face): a real frame and its row in the table of neighbours."""

    roles = 2
    makes_fakes = True
    Options = FaceXrayOptions

    def __init__(self, config: Config, index: Index, split: str = "train"):
        super().__init__(config, index, split)
        faces = frame_draws(index, self.frame_num)
        self.faces = faces[index.label[faces[:, 0]] == 0] if len(faces) else faces
        self._neighbours: Neighbours | None = None

    @property
    def cache(self) -> Path:
        """Where the neighbours of these datasets are kept when the user names no file."""
        return Path(self.config.dataset_json_folder) / f"{'+'.join(self.index.datasets)}_xray_nearest.npz"

    def neighbours(self) -> Neighbours:
        """Return everybody's nearest faces, read or computed once."""
        if self._neighbours is None:
            if not len(self.faces):
                raise DataError(
                    "the recipe `facexray` needs real videos in the training split; add datasets to train_dataset"
                )
            storages = [open_storage(self.config, name) for name in self.index.datasets]
            named = self.options.nearest
            self._neighbours = cached_neighbours(
                self.index, storages, self.faces, self.options.neighbours, Path(named or self.cache), bool(named)
            )
        return self._neighbours

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        self.neighbours()
        return np.column_stack([self.faces, np.arange(len(self.faces))])

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        video, position, face = map(int, draw)
        if rng is None:
            raise DataError("the recipe `facexray` makes training images; evaluation reads frames")
        near = self.neighbours().rows[face][: self.options.neighbours]
        partner = int(rng.choice(near[near >= 0]))
        background = reader.raw(video, position, landmark=True)
        other, other_position = map(int, self.faces[partner])
        foreground = reader.raw(other, other_position, landmark=True)
        try:
            mixed, alpha = self.mix(background, foreground, rng)
        except DataError as error:
            names = [
                f"{reader.labels(v)['video']}, frame {s['frame']}"
                for v, s in ((video, background), (other, foreground))
            ]
            raise DataError(f"{names[0]} with the face of {names[1]}: {error}") from error
        real = {"image": background["image"], "mask": np.zeros_like(alpha)}
        fake = {"image": mixed, "mask": alpha}
        known = {**reader.labels(video), "frame": background["frame"]}
        return [
            {**_with_xray(reader.finish(sample, reader.plan(rng))), **known, **label}
            for sample, label in ((real, {}), (fake, {"label": 1, "method": -1}))
        ]

    def mix(self, background: Sample, foreground: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the blend and its soft mask M `(H, W)`: exactly the background where M is 0.

        Raises:
            DataError: the landmarks of one of the two are no face's.
        """
        image, points = background["image"], background["landmark"]
        height, width = image.shape[:2]
        low, high = (limit * width / 256 for limit in self.options.blur)
        mask = deform(hull_mask(points, height, width), rng, self.options.deformation)
        alpha = soften(mask, max(3, int(rng.uniform(low, high)) | 1))
        onto = face_similarity(foreground["landmark"][:68], points[:68], 1 / 20, 20)
        moved = warp(foreground["image"], onto, width, height)
        return blend(match_colour(moved, image, alpha), image, alpha), alpha

    def empty(self) -> Batch:
        size = self.config.resolution
        batch = super().empty()
        batch["mask"] = torch.empty((0, 1, size, size), dtype=torch.uint8)
        batch["xray"] = torch.empty((0, 1, size, size))
        return batch


def _with_xray(sample: Sample) -> Sample:
    alpha = sample["mask"]
    xray = 4 * alpha * (1 - alpha)
    return {**sample, "mask": (alpha > 0).astype(np.uint8), "xray": xray[None].astype(np.float32)}
