"""Clips of successive frames, spread evenly over each video; one augmentation plan for all frames of a clip."""

import logging

import numpy as np

from common.errors import DataError
from training.dataset.recipes.recipe import FrameReader, Recipe, Sample, register_recipe
from training.dataset.sampling import spread_clips

log = logging.getLogger("clipdeepfake.data")


@register_recipe
class Clips(Recipe):
    """A draw is (video, first position): `clip_size` successive frames. `image` is `(T, H, W, 3)`."""

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        size = self.config.clip_size
        assert size is not None  # the configuration sees to it
        videos, starts = spread_clips(self.index.frames, self.frame_num, size)
        short = np.flatnonzero(self.index.frames < size)
        if len(short) and not len(starts):
            raise DataError(f"no video has the {size} frames of one clip; extract more frames or lower clip_size")
        if len(short) and epoch == 0:
            log.warning(
                "%d of %d videos have fewer than %d frames and give no clip, first %s",
                len(short),
                len(self.index),
                size,
                self.index.video_id(int(short[0])),
            )
        return np.stack([videos, starts], axis=1)

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        video, first = int(draw[0]), int(draw[1])
        plan = reader.plan(rng)
        frames = [reader.frame(video, first + i, plan=plan) for i in range(self.config.clip_size or 1)]
        clip = {**frames[0], "image": np.stack([f["image"] for f in frames])}
        for key in ("mask", "landmark"):
            if key in clip:
                clip[key] = np.stack([f[key] for f in frames])
        return [clip]
