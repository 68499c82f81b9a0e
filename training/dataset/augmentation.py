"""Training augmentation on uint8 images with their masks and landmarks, from the `data_aug` keys.

The steps and their order are the field's: flip, rotate, Gaussian blur, down-up rescaling, brightness and contrast (or hue
and saturation), JPEG. What is drawn depends on the generator alone; a clip is given one plan for all its frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.config.schema import DataAug

_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR)


def _mirror_order() -> np.ndarray:
    """Return, for each of the 81 landmarks, which one stands in its place in a mirrored face."""
    partner = np.arange(81)
    pairs = [(i, 16 - i) for i in range(8)]
    pairs += [(17 + i, 26 - i) for i in range(5)] + [(31, 35), (32, 34)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]
    # The forehead of the 81-point predictor runs 77 75 76 68 69 70 71 80 72 73 79 74 78 from one temple to the other.
    pairs += [(77, 78), (75, 74), (76, 79), (68, 73), (69, 72), (70, 80)]
    for a, b in pairs:
        partner[a], partner[b] = b, a
    return partner


MIRROR = _mirror_order()


@dataclass(frozen=True)
class Plan:
    """Everything random about one augmentation, drawn before any pixel is touched."""

    flip: bool
    angle: float
    blur: int
    rescale: tuple[float, int, int] | None
    brightness: float
    contrast: float
    hue: int
    saturation: float
    value: float
    quality: int


class Augmentation:
    """Draws plans and carries them out."""

    def __init__(self, settings: DataAug, rescale: bool = True):
        """`rescale` is left out by callers that need pixel-exact landmarks."""
        self.settings, self.rescale = settings, rescale

    def plan(self, rng: np.random.Generator) -> Plan:
        """Draw one plan; always the same number of draws, so that one probability does not shift the others."""
        s = self.settings
        chance = rng.random(7)
        angle = rng.uniform(*s.rotate_limit)
        kernel = _odd(rng.uniform(*s.blur_limit))
        scale, down, up = rng.uniform(0.5, 1.0), int(rng.integers(3)), int(rng.integers(3))
        brightness, contrast = rng.uniform(*s.brightness_limit), rng.uniform(*s.contrast_limit)
        hue, saturation, value = rng.uniform(-1, 1, 3)
        quality = int(rng.integers(s.quality_lower, s.quality_upper + 1))
        colour = chance[3] < s.brightness_prob
        by_light = chance[4] < 0.5
        return Plan(
            flip=bool(chance[0] < s.flip_prob),
            angle=angle if chance[1] < s.rotate_prob else 0.0,
            blur=kernel if chance[2] < s.blur_prob else 0,
            rescale=(scale, down, up) if self.rescale and chance[5] < s.rescale_prob else None,
            brightness=brightness if colour and by_light else 0.0,
            contrast=contrast if colour and by_light else 0.0,
            hue=round(hue * 5) if colour and not by_light else 0,
            saturation=saturation * 0.1 if colour and not by_light else 0.0,
            value=value * 0.1 if colour and not by_light else 0.0,
            quality=quality if chance[6] < s.compress_prob else 100,
        )

    def image(self, image: np.ndarray, plan: Plan) -> np.ndarray:
        """Return the augmented `(H, W, 3)` uint8 image."""
        if plan.flip:
            image = cv2.flip(image, 1)
        if plan.angle:
            image = cv2.warpAffine(
                image, _rotation(image, plan.angle), image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101
            )
        if plan.blur:
            image = cv2.GaussianBlur(image, (plan.blur, plan.blur), 0)
        if plan.rescale:
            image = _rescale(image, *plan.rescale)
        if plan.brightness or plan.contrast:
            table = np.arange(256) * (1 + plan.contrast) + 255 * plan.brightness
            image = cv2.LUT(image, table.round().clip(0, 255).astype(np.uint8))
        if plan.hue or plan.saturation or plan.value:
            image = _shift_colour(image, plan)
        if plan.quality < 100:
            image = _jpeg(image, plan.quality)
        return np.ascontiguousarray(image)

    def mask(self, mask: np.ndarray, plan: Plan) -> np.ndarray:
        """Return the mask `(H, W)` moved as the image is; it keeps its values."""
        if plan.flip:
            mask = cv2.flip(mask, 1)
        if plan.angle:
            mask = cv2.warpAffine(
                mask,
                _rotation(mask, plan.angle),
                mask.shape[1::-1],
                flags=cv2.INTER_NEAREST,
                borderMode=cv2.BORDER_REFLECT_101,
            )
        return np.ascontiguousarray(mask)

    def landmark(self, points: np.ndarray, plan: Plan, width: int, height: int) -> np.ndarray:
        """Return `(N, 2)` landmarks moved as an image of that size is; a flip also swaps left and right names."""
        if plan.flip:
            points = points * np.float32([-1, 1]) + np.float32([width - 1, 0])
            partner = MIRROR[: len(points)] if len(points) == 81 else MIRROR[:68]
            points = points[partner]
        if plan.angle:
            matrix = _rotation(np.empty((height, width)), plan.angle)
            points = points @ matrix[:, :2].T + matrix[:, 2]
        return points.astype(np.float32)


def _odd(value: float) -> int:
    return int(value) // 2 * 2 + 1


def _rotation(image: np.ndarray, angle: float) -> np.ndarray:
    """Return the 2x3 matrix that turns an image about its centre, in degrees counter-clockwise."""
    height, width = image.shape[:2]
    return cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)


def _rescale(image: np.ndarray, scale: float, down: int, up: int) -> np.ndarray:
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=_INTERPOLATIONS[down]
    )
    return cv2.resize(small, (width, height), interpolation=_INTERPOLATIONS[up])


def _shift_colour(image: np.ndarray, plan: Plan) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    steps = np.arange(256)
    hue = ((steps + plan.hue) % 180).astype(np.uint8)
    saturation = (steps + 255 * plan.saturation).round().clip(0, 255).astype(np.uint8)
    value = (steps + 255 * plan.value).round().clip(0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(hsv, np.stack([hue, saturation, value], axis=-1)[None]), cv2.COLOR_HSV2RGB)


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    # Encoder and decoder agree on the channel order, but the chroma planes are those of RGB only if it is told so.
    code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
