"""Training augmentation on uint8 images with their masks and landmarks, from the `data_aug` keys.

The steps, their order and the limits that have no key are DeepfakeBench's: flip, rotation, Gaussian blur, one of three
(brightness and contrast; a shift along the picture's own principal colours; hue, saturation and value), JPEG. Its "isotropic
resize" brings a crop to the network's resolution with an interpolation chosen at random; that is `Plan.interpolation`, used by
whoever resizes. What is drawn depends on the generator alone; a clip is given one plan for all its frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.config.schema import DataAug

# For (shrinking, enlarging), one pair of which is drawn.
_INTERPOLATIONS = (
    (cv2.INTER_AREA, cv2.INTER_CUBIC),
    (cv2.INTER_AREA, cv2.INTER_LINEAR),
    (cv2.INTER_LINEAR, cv2.INTER_LINEAR),
)
# Limits of the field's hue-saturation-value step, in OpenCV's units (hue 0…179, the others 0…255).
_HUE, _SATURATION, _VALUE = 20, 30, 20
_PCA = 0.1  # deviation of the field's fancy PCA


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
    """Everything random about one augmentation, drawn before any pixel is touched.

    Attributes:
        flip: mirror left and right. angle: degrees, counter-clockwise. blur: size of the Gaussian kernel, 0 for none.
        interpolation: (shrinking, enlarging) for the resize to the network's resolution, None for the usual one.
        brightness: added, as a share of 255. contrast: relative change. hue, saturation, value: added, in OpenCV's units.
        pca: how far the colours move along each of the picture's principal axes, as a share of the axis' variance; empty: not.
        quality: of JPEG; 0 for none.
    """

    flip: bool = False
    angle: float = 0.0
    blur: int = 0
    interpolation: tuple[int, int] | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    hue: int = 0
    saturation: int = 0
    value: int = 0
    pca: tuple[float, ...] = ()
    quality: int = 0


class Augmentation:
    """Draws plans and carries them out."""

    def __init__(self, settings: DataAug, rescale: bool = True):
        """Take the `data_aug` keys; `rescale` false leaves the interpolation alone."""
        self.settings, self.rescale = settings, rescale

    def plan(self, rng: np.random.Generator) -> Plan:
        """Draw one plan; always the same number of draws, so that one probability does not shift the others."""
        s = self.settings
        chance, amount = rng.random(7).tolist(), rng.random(9).tolist()
        angle, kernel, brightness, contrast = (
            low + part * (high - low)
            for part, (low, high) in zip(amount, (s.rotate_limit, s.blur_limit, s.brightness_limit, s.contrast_limit))
        )
        interpolation, quality, hue, saturation, value = (
            low + int(part * (high - low + 1))
            for part, (low, high) in zip(
                amount[4:],
                (
                    (0, len(_INTERPOLATIONS) - 1),
                    (s.quality_lower, s.quality_upper),
                    (-_HUE, _HUE),
                    (-_SATURATION, _SATURATION),
                    (-_VALUE, _VALUE),
                ),
            )
        )
        colours = tuple((_PCA * rng.standard_normal(3)).tolist())
        kind = int(3 * chance[4]) if chance[3] < s.brightness_prob else None
        light, colour = kind == 0, kind == 2
        return Plan(
            flip=chance[0] < s.flip_prob,
            angle=angle if chance[1] < s.rotate_prob else 0.0,
            blur=_odd(kernel) if chance[2] < s.blur_prob else 0,
            interpolation=_INTERPOLATIONS[interpolation] if self.rescale and chance[5] < s.rescale_prob else None,
            brightness=brightness if light else 0.0,
            contrast=contrast if light else 0.0,
            hue=hue if colour else 0,
            saturation=saturation if colour else 0,
            value=value if colour else 0,
            pca=colours if kind == 1 else (),
            quality=quality if chance[6] < s.compress_prob else 0,
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
        if plan.brightness or plan.contrast:
            table = np.arange(256) * (1 + plan.contrast) + 255 * plan.brightness
            image = cv2.LUT(image, table.round().clip(0, 255).astype(np.uint8))
        if plan.pca:
            image = _fancy_pca(image, plan.pca)
        if plan.hue or plan.saturation or plan.value:
            image = _shift_colour(image, plan)
        if plan.quality:
            image = _jpeg(image, plan.quality)
        return np.ascontiguousarray(image)

    def mask(self, mask: np.ndarray, plan: Plan) -> np.ndarray:
        """Return the mask `(H, W)` moved as the image is; a binary (integer) mask keeps its values, a soft one is blended."""
        if plan.flip:
            mask = cv2.flip(mask, 1)
        if plan.angle:
            flags = cv2.INTER_LINEAR if mask.dtype.kind == "f" else cv2.INTER_NEAREST
            turn = _rotation(mask, plan.angle)
            mask = cv2.warpAffine(mask, turn, mask.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        return np.ascontiguousarray(mask)

    def landmark(self, points: np.ndarray, plan: Plan, width: int, height: int) -> np.ndarray:
        """Return landmarks `(81, 2)` or `(68, 2)` moved as an image of that size is; a flip also swaps left and right's names."""
        if plan.flip:
            points = points * np.array([-1, 1]) + np.array([width - 1, 0])
            points = points[MIRROR[: len(points)]]
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


def _shift_colour(image: np.ndarray, plan: Plan) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    steps = np.arange(256)
    hue = ((steps + plan.hue) % 180).astype(np.uint8)
    saturation = (steps + plan.saturation).clip(0, 255).astype(np.uint8)
    value = (steps + plan.value).clip(0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(hsv, np.stack([hue, saturation, value], axis=-1)[None]), cv2.COLOR_HSV2RGB)


def _fancy_pca(image: np.ndarray, amounts: tuple[float, ...]) -> np.ndarray:
    """Return the image with one colour added to all of its pixels (Krizhevsky et al. 2012, section 4.1).

    The colour is the sum over the principal axes of the picture's colours, each times its variance and an amount of its own;
    colours count from 0 to 1. Axes that point the other way would mirror the amounts, so the sign is made to be one.
    """
    pixels = image.reshape(-1, 3)
    middle = np.array(cv2.mean(image)[:3])[None]
    covariance = cv2.mulTransposed(pixels, aTa=True, delta=middle, scale=1 / max(1, len(pixels) - 1), dtype=cv2.CV_64F)
    variances, axes = np.linalg.eigh(covariance / 255**2)  # axes are columns
    axes = axes * np.where(axes.sum(axis=0) < 0, -1, 1)
    shift = 255 * axes @ (variances * np.array(amounts))
    table = np.arange(256)[:, None] + shift
    return cv2.LUT(image, table.round().clip(0, 255).astype(np.uint8)[None])


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    # OpenCV takes BGR; given RGB it would subsample the wrong colour planes.
    code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded a line above
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
