"""Groups of a real face and a fake of it of every kind, as LSDA trains on (Yan et al., CVPR 2024, section 4.1).

Role 0 is the real face, role k the fake of manipulation k by `DataInfo`. All are of one person, and the fakes of one source
where the data have such (in FaceForensics++ always); a person of whom a kind has no fake gets any fake of that kind. All frames
of a group are at the same share of their videos. An epoch has `groups_per_video` groups of every real video, each at a random
one of its `frame_num` frames, as the field's reference has one.

`chance` is an integer per sample, the same in a group, from which the detector's own randomness follows.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from common.errors import DataError
from training.batch import Batch
from training.config.schema import Config, Section
from training.dataset.index.selection import Index
from training.dataset.recipes.recipe import FrameReader, Recipe, Sample, register_recipe
from training.dataset.sampling import draws_rng, place


class LsdaOptions(Section):
    """How many groups an epoch has."""

    groups_per_video: int = Field(1, ge=1, description="groups of every real video in an epoch")


@register_recipe
class ForgeryGroups(Recipe):
    """A draw is (real video, position, fake video of kind 1, position, …)."""

    Options = LsdaOptions

    def __init__(self, config: Config, index: Index, split: str = "train"):
        super().__init__(config, index, split)
        self.kinds = index.info.num_manipulations
        self.roles = 1 + self.kinds  # type: ignore[misc]

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        index, rng = self.index, draws_rng(seed, epoch)
        real = np.repeat(np.flatnonzero(index.label == 0), self.options.groups_per_video)
        missing = [name for name, kind in index.info.manipulations.items() if kind and not (index.method == kind).any()]
        if not len(real) or self.kinds < 2 or missing:
            lacks = f"videos of {', '.join(missing)}" if missing else "real videos and at least two kinds of fakes"
            raise DataError(
                f"the recipe `lsda` needs {lacks} in the training split, since a kind of fakes is a domain; "
                "add datasets to train_dataset"
            )
        # One number for all kinds: of fakes in the order of their sources it takes those of the same source.
        chance, share = rng.random(len(real)), rng.random(len(real))
        columns = []
        for videos in (real, *(self._fakes(kind, real, chance) for kind in range(1, self.kinds + 1))):
            used = np.minimum(index.frames[videos], self.frame_num)
            columns += [videos, place((share * used).astype(np.int64), index.frames[videos], used)]
        return np.column_stack(columns).astype(np.int32)

    def _fakes(self, kind: int, real: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Return a fake of that kind for every real video, of its person where there is one."""
        index = self.index
        fakes = np.flatnonzero(index.method == kind)
        fakes = fakes[np.lexsort((index.source[fakes], index.target[fakes]))]
        people, shown = index.target[real], index.target[fakes]
        low, high = np.searchsorted(shown, people, "left"), np.searchsorted(shown, people, "right")
        known = (people >= 0) & (high > low)
        low, high = np.where(known, low, 0), np.where(known, high, len(fakes))
        return fakes[low + (chance * (high - low)).astype(np.int64)]

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        chance = np.int64(rng.integers(1 << 62)) if rng is not None else np.int64(0)
        pairs = draw.reshape(-1, 2).tolist()
        return [{**reader.frame(video, position, rng), "chance": chance} for video, position in pairs]

    def empty(self) -> Batch:
        return {**super().empty(), "chance": torch.empty(0, dtype=torch.int64)}
