"""TALL's clips: every frame of a clip lacks the same block, so that no single place decides (Xu et al., ICCV 2023, section 3.1).

The block's middle is drawn evenly over the frame, at whose edge the block is cut off; it is filled with the mean colour, which
is 0 once normalised. Detectors lay the frames out; evaluation sees whole frames. A mask of the forgery is left as it is.
"""

import numpy as np
from pydantic import Field

from training.batch import Sample
from training.config.schema import MANY, Section
from training.dataset.recipes.clips_recipe import Clips
from training.dataset.recipes.recipe import FrameReader, register_recipe


class TallOptions(Section):
    """The block."""

    mask_grid_size: int = Field(
        32, ge=0, le=MANY, description="its side in pixels of a frame; 0: none. The authors' is 16 of frames of 112"
    )


@register_recipe
class Tall(Clips):
    """Clips with a block missing at one place."""

    Options = TallOptions

    def load(self, draw: np.ndarray, reader: FrameReader, rng: np.random.Generator | None) -> list[Sample]:
        clips = super().load(draw, reader, rng)
        if rng is None:
            return clips
        colour = np.round(255 * np.array(self.config.mean)).clip(0, 255).astype(np.uint8)
        for clip in clips:
            height, width = clip["image"].shape[1:3]
            rows, columns = (self._span(rng, side) for side in (height, width))
            clip["image"][:, rows, columns] = colour
        return clips

    def _span(self, rng: np.random.Generator, side: int) -> slice:
        """Return where the block lies along a side of the frame."""
        first = int(rng.integers(side)) - self.options.mask_grid_size // 2
        return slice(max(0, first), max(0, first + self.options.mask_grid_size))
