"""Pairs of a real and a fake frame of the same person, as UCF trains on."""

import logging
from typing import Literal

import numpy as np
from pydantic import Field

from training.config.schema import Section
from training.dataset.recipe import FrameReader, Recipe, Sample, frame_draws, register_recipe
from training.dataset.sampling import draws_rng, spread
from training.errors import DataError

log = logging.getLogger("clipdeepfake.data")


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
        partners = rng.choice(real, size=len(rows))
        if self.options.partner != "any":
            partners = self._own_partners(rows[:, 0], real, partners, rng)
        share = (rows[:, 1] + 0.5) / index.frames[rows[:, 0]]
        # The real frame at that share, among those that would be used of the real video alone.
        positions = np.empty(len(rows), np.int64)
        for i, (video, at) in enumerate(zip(partners, share, strict=True)):
            there = spread(int(index.frames[video]), self.frame_num)
            positions[i] = there[min(len(there) - 1, int(at * len(there)))]
        return np.stack([rows[:, 0], rows[:, 1], partners, positions], axis=1)

    def _own_partners(
        self, fakes: np.ndarray, real: np.ndarray, others: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        people = self.index.target if self.options.partner == "target" else self.index.source
        by_person: dict[int, list[int]] = {}
        for video in real:
            by_person.setdefault(int(self.index.target[video]), []).append(int(video))
        picks = rng.random(len(fakes))
        found = others.copy()
        for i, video in enumerate(fakes):
            own = by_person.get(int(people[video]), []) if people[video] >= 0 else []
            if own:
                found[i] = own[int(picks[i] * len(own))]
        return found

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        fake, fake_at, real, real_at = map(int, draw)
        return [reader.frame(real, real_at, rng), reader.frame(fake, fake_at, rng)]
