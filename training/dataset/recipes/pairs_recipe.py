"""Pairs of a real and a fake frame of the same person, as UCF trains on."""

from typing import Literal

import numpy as np
from pydantic import Field

from common.errors import DataError
from training.config.schema import Section
from training.dataset.recipes.recipe import FrameReader, Recipe, Sample, frame_draws, register_recipe
from training.dataset.sampling import draws_rng, place


class PairOptions(Section):
    """Which real video stands beside a fake one."""

    partner: Literal["target", "source", "any"] = Field(
        "target", description="the fake's target, its source, or any real video (the field's reference)"
    )


@register_recipe
class Pairs(Recipe):
    """A draw is (fake video, position, real video, position). Role 0 is the real frame, role 1 the fake one.

    The real frame is at the same share of its video, so that pose and expression are near where the real video is the
    fake's own target. A fake whose partner is not in the split is paired with any real video.
    """

    roles = 2
    Options = PairOptions

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        index, rng = self.index, draws_rng(seed, epoch)
        real = np.flatnonzero(index.label == 0)
        rows = frame_draws(index, self.frame_num)
        rows = rows[index.label[rows[:, 0]] == 1]
        if not len(real) or not len(rows):
            raise DataError("pairs need real and fake videos in the training split; add datasets to train_dataset")
        partner = rng.choice(real, size=len(rows))
        if self.options.partner != "any":
            own = self._own_partners(rows[:, 0], real, rng.random(len(rows)))
            partner = np.where(own < 0, partner, own)
        share = (rows[:, 1] + 0.5) / index.frames[rows[:, 0]]
        # The real frame at that share, among those that would be used of the real video alone.
        used = np.minimum(index.frames[partner], self.frame_num)
        position = place((share * used).astype(np.int64), index.frames[partner], used)
        return np.column_stack([rows, partner, position]).astype(np.int32)

    def _own_partners(self, fakes: np.ndarray, real: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Return a real video of each fake's person, chosen by `chance` in [0, 1); -1 where there is none."""
        people = (self.index.target if self.options.partner == "target" else self.index.source)[fakes]
        real = real[np.argsort(self.index.target[real], kind="stable")]
        shown = self.index.target[real]
        low, high = np.searchsorted(shown, people, "left"), np.searchsorted(shown, people, "right")
        found = (people >= 0) & (high > low)
        at = np.minimum(low + (chance * (high - low)).astype(np.int64), len(real) - 1)
        return np.where(found, real[at], -1)

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        fake, fake_at, real, real_at = map(int, draw)
        return [reader.frame(real, real_at, rng), reader.frame(fake, fake_at, rng)]
