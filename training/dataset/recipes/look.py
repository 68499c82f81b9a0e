"""The look of a picture: shifts of colour and light, loss of resolution, sharpening; drawn first, then carried out on uint8.

Everything that acts on one channel at a time becomes one table of 256 entries per channel, so that it costs one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import Field

from training.config.schema import NonNegative, Pair, Probability, Section, Triple


class LookLimits(Section):
    """How far a look may be drawn; 0 leaves a change out."""

    rgb: NonNegative = Field(20.0, description="largest shift of a channel, levels of 256")
    rgb_prob: Probability = 0.3
    hsv: Triple = Field([3.0, 10.0, 10.0], description="largest shift of hue (of 180), saturation and value (of 256)")
    hsv_prob: Probability = 1.0
    brightness: NonNegative = Field(0.1, description="largest shift of all channels, share of 255")
    contrast: NonNegative = Field(0.1, description="largest relative change")
    light_prob: Probability = Field(1.0, description="of brightness and contrast together")


@dataclass(frozen=True)
class Look:
    """One drawn look.

    Attributes:
        rgb: added to the channels, levels. hsv: added to hue, saturation and value, OpenCV's units.
        brightness: added, share of 255. contrast: relative change.
        shrink: the picture goes through one so many times smaller; 0 for not. sharpen: weight of the sharpened picture.
        lift: added to the middle of the sharpening kernel.
    """

    rgb: tuple[float, float, float] = (0.0, 0.0, 0.0)
    hsv: tuple[int, int, int] = (0, 0, 0)
    brightness: float = 0.0
    contrast: float = 0.0
    shrink: int = 0
    sharpen: float = 0.0
    lift: float = 0.0


def draw_look(limits: LookLimits, rng: np.random.Generator, detail: Pair | None = None) -> Look:
    """Draw a look; with `detail`, limits of the sharpening's weight, it also loses resolution or is sharpened, one of the two."""
    chance, amount = rng.random(5).tolist(), rng.uniform(-1, 1, 8).tolist()
    on = [chance[i] < p for i, p in enumerate((limits.rgb_prob, limits.hsv_prob, limits.light_prob))]
    smaller = chance[3] < 0.5
    return Look(
        rgb=tuple(part * limits.rgb * on[0] for part in amount[:3]),  # type: ignore[arg-type]
        hsv=tuple(round(part * most * on[1]) for part, most in zip(amount[3:6], limits.hsv)),  # type: ignore[arg-type]
        brightness=amount[6] * limits.brightness * on[2],
        contrast=amount[7] * limits.contrast * on[2],
        shrink=(2, 4)[int(chance[4] < 0.5)] if detail and smaller else 0,
        sharpen=detail[0] + chance[4] * (detail[1] - detail[0]) if detail and not smaller else 0.0,
        lift=0.5 + 0.5 * chance[3] if detail and not smaller else 0.0,
    )


def apply_look(image: np.ndarray, look: Look) -> np.ndarray:
    """Return the uint8 RGB image with that look; the one given stays as it is."""
    levels = np.arange(256, dtype=np.float64)[:, None]
    if any(look.rgb) or look.brightness or look.contrast:
        table = (levels + look.rgb) * (1 + look.contrast) + 255 * look.brightness
        image = cv2.LUT(image, table.round().clip(0, 255).astype(np.uint8)[None])
    if any(look.hsv):
        table = levels + look.hsv
        table[:, 0] %= 180
        shifted = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table.clip(0, 255).astype(np.uint8)[None])
        image = cv2.cvtColor(shifted, cv2.COLOR_HSV2RGB)
    if look.shrink:
        height, width = image.shape[:2]
        small = max(1, width // look.shrink), max(1, height // look.shrink)
        image = cv2.resize(image, small, interpolation=cv2.INTER_NEAREST)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    if look.sharpen:
        kernel = np.full((3, 3), -look.sharpen, np.float32)
        kernel[1, 1] = 1 - look.sharpen + look.sharpen * (8 + look.lift)
        image = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return image
