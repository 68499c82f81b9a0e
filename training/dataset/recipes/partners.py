"""What recipes share that put one person's face into another's picture: who meets whom, and what a blend is as a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from common.errors import DataError
from training.batch import Batch, Sample
from training.config.schema import Config, Section
from training.dataset.index.selection import Index
from training.dataset.recipes.nearest import Neighbours, cached_neighbours
from training.dataset.recipes.recipe import FrameReader, Recipe, frame_draws
from training.dataset.storage import open_storage


class PartnerOptions(Section):
    """Who is blended into whom."""

    nearest: str | None = Field(
        None, description=".npz of generate_xray_nearest.py; null: made and kept beside the index"
    )
    neighbours: int = Field(100, ge=1, description="the partner is one of so many nearest faces")


class PartnerRecipe(Recipe):
    """A draw is (video, position, face): a real frame, the background, and its row in the table of neighbours.

    The foreground is one of the real faces of other people that stand most like it. Role 0 is the untouched background, role 1
    the blend; `mask` marks every pixel that may differ. A subclass says how two faces are mixed, and what it makes of the
    soft mask.
    """

    roles = 2
    makes_fakes = True
    Options = PartnerOptions
    # The key under which the batch holds what `told` makes of the soft mask.
    tells = ""

    def __init__(self, config: Config, index: Index, split: str = "train"):
        super().__init__(config, index, split)
        faces = frame_draws(index, self.frame_num)
        self.faces = faces[index.label[faces[:, 0]] == 0] if len(faces) else faces
        self._neighbours: Neighbours | None = None

    def mix(self, background: Sample, foreground: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the blend and its soft mask M `(H, W)`: exactly the background where M is 0.

        Raises:
            DataError: the landmarks of one of the two are no face's.
        """
        raise NotImplementedError

    def told(self, alpha: np.ndarray) -> np.ndarray:
        """Return what the batch tells of a soft mask M `(H, W)` beside `mask`, of the same size."""
        raise NotImplementedError

    @property
    def cache(self) -> Path:
        """Where the neighbours of these datasets are kept when the user names no file."""
        return Path(self.config.dataset_json_folder) / f"{'+'.join(self.index.datasets)}_xray_nearest.npz"

    def neighbours(self) -> Neighbours:
        """Return everybody's nearest faces, read or computed once."""
        if self._neighbours is None:
            if not len(self.faces):
                raise DataError(
                    f"the recipe `{self.name}` needs real videos in the training split; add datasets to train_dataset"
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
            raise DataError(f"the recipe `{self.name}` makes training images; evaluation reads frames")
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
        if self.config.with_landmark:
            real["landmark"] = fake["landmark"] = background["landmark"]
        known = {**reader.labels(video), "frame": background["frame"]}
        return [
            {**self._described(reader.finish(sample, reader.plan(rng))), **known, **label}
            for sample, label in ((real, {}), (fake, {"label": 1, "method": -1}))
        ]

    def _described(self, sample: Sample) -> Sample:
        alpha = sample["mask"]
        told = self.told(alpha)[None].astype(np.float32)
        return {**sample, "mask": (alpha > 0).astype(np.uint8), self.tells: told}

    def empty(self) -> Batch:
        size = self.config.resolution
        batch = super().empty()
        batch["mask"] = torch.empty((0, 1, size, size), dtype=torch.uint8)
        batch[self.tells] = torch.empty((0, 1, size, size))
        return batch
