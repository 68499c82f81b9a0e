"""Clips of successive frames, spread evenly over each video; one augmentation plan for all frames of a clip.

Training lets each clip begin anywhere in its share of the video, drawn each epoch; evaluation always reads the same clips.
"""

import numpy as np

from common.errors import DataError
from training.dataset.augmentation import Plan
from training.dataset.recipes.recipe import FrameReader, Recipe, Sample, register_recipe
from training.dataset.sampling import draws_rng, random_clips, spread_clips


@register_recipe
class Clips(Recipe):
    """A draw is (video, first position): `clip_size` successive frames. `image` is `(T, H, W, 3)`."""

    @property
    def size(self) -> int:
        """Frames of a clip."""
        assert self.config.clip_size is not None  # the configuration sees to it
        return self.config.clip_size

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        lengths, wanted = self.index.frames, self.frame_num
        if self.split == "train":
            videos, starts = random_clips(lengths, wanted, self.size, draws_rng(seed, epoch))
        else:
            videos, starts = spread_clips(lengths, wanted, self.size)
        if len(lengths) and not len(starts):
            raise DataError(f"no video has the {self.size} frames of one clip; extract more frames or lower clip_size")
        return np.stack([videos, starts], axis=1)

    def too_short(self) -> list[str]:
        return [self.index.video_id(int(video)) for video in np.flatnonzero(self.index.frames < self.size)]

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        video, first = int(draw[0]), int(draw[1])
        return [read_clip(reader, video, range(first, first + self.size), reader.plan(rng))]


def read_clip(reader: FrameReader, video: int, positions: range, plan: Plan | None) -> Sample:
    """Return a sample of the frames at `positions` of one video, all augmented by the same plan.

    `image` `(T, H, W, 3)`, where asked `mask` `(T, H, W)` and `landmark` `(T, 81, 2)`; `frame` is the first one's number. Each
    frame is read once and written into its place, so that no more than one frame is held beside the clip.
    """
    clip: Sample = reader.labels(video)
    for place, position in enumerate(positions):
        raw = reader.raw(video, position, reader.config.with_landmark, reader.config.with_mask)
        for key, value in reader.finish(raw, plan).items():
            if not place:
                clip[key] = np.empty((len(positions), *value.shape), value.dtype)
            clip[key][place] = value
        if not place:
            clip["frame"] = raw["frame"]
    return clip
