"""Single frames, spread evenly over each video."""

import numpy as np

from training.dataset.recipes.recipe import FrameReader, Recipe, Sample, frame_draws, register_recipe


@register_recipe
class Frames(Recipe):
    """A draw is (video, position): one frame, one role."""

    def draws(self, seed: int, epoch: int) -> np.ndarray:
        return frame_draws(self.index, self.frame_num)

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        return [reader.frame(int(draw[0]), int(draw[1]), rng)]
