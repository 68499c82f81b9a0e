"""What stands around a head: the lamp, the background, neck and shoulders."""

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.demo.features import paint
from preprocessing.demo.head import Light, paint_head
from preprocessing.demo.identity import Identity
from preprocessing.demo.motion import Expression, Pose


@dataclass(frozen=True)
class LightRange:
    """The lamps of a domain: bounds to draw from. `side`: how far the lamp stands aside; `tint`: spread of its colour."""

    side: float
    lamp: tuple[float, float]
    ambient: tuple[float, float]
    wrap: tuple[float, float]
    gloss: tuple[float, float]
    rim: tuple[float, float]
    tint: float


def draw_light(rng: np.random.Generator, bounds: LightRange) -> Light:
    """Draw the lighting of one video."""
    direction = np.array([bounds.side * rng.uniform(-1, 1), rng.uniform(-0.75, -0.25), 1.0])
    direction /= np.linalg.norm(direction)
    warmth = bounds.tint * rng.uniform(-1, 1)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    lamp, ambient = rng.uniform(*bounds.lamp) * tint, rng.uniform(*bounds.ambient) * (2 - tint)
    x, y, z = map(float, direction)
    return Light(
        (x, y, z), (float(lamp[0]), 1.0 * float(lamp[1]), float(lamp[2])),
        (float(ambient[0]), float(ambient[1]), float(ambient[2])),
        float(rng.uniform(*bounds.wrap)), float(rng.uniform(*bounds.gloss)), float(rng.uniform(*bounds.rim)),
    )  # fmt: skip


def draw_background(rng: np.random.Generator, size: tuple[int, int], kind: str) -> np.ndarray:
    """Return a background (H, W, 3) float32: `studio` (soft gradient), `room` (shelves, window) or `street` (lights)."""
    painters = {"studio": _studio, "room": _room, "street": _street}
    picture = painters[kind](rng, size)
    return np.clip(picture, 0, 1).astype(np.float32)


def _studio(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    colour = rng.uniform(0.15, 0.75) + 0.12 * rng.uniform(-1, 1, 3)
    y, x = np.mgrid[0:height, 0:width] / height
    spot = np.exp(-((x - rng.uniform(0.2, 1.1)) ** 2 + (y - rng.uniform(0.2, 0.8)) ** 2) / rng.uniform(0.2, 0.8))
    return colour * (0.7 + 0.5 * spot)[..., None]


def _room(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    picture = _studio(rng, size)
    for _ in range(int(rng.integers(4, 9))):
        left, top = rng.integers(-40, width), rng.integers(-40, height)
        right, bottom = left + rng.integers(20, width // 2), top + rng.integers(20, height // 2)
        colour = tuple(float(c) for c in np.clip(picture.mean((0, 1)) + 0.25 * rng.uniform(-1, 1, 3), 0, 1))
        cv2.rectangle(picture, (int(left), int(top)), (int(right), int(bottom)), colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(1.5, 4)))


def _street(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    picture = _studio(rng, size) * 0.6
    for _ in range(int(rng.integers(15, 35))):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = tuple(float(c) for c in np.clip(rng.uniform(0.3, 1.0) + 0.3 * rng.uniform(-1, 1, 3), 0, 1))
        glow = np.zeros_like(picture)
        cv2.circle(glow, centre, int(rng.integers(4, 18)), colour, -1, cv2.LINE_AA)
        picture += rng.uniform(0.2, 0.6) * glow
    return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(1, 2.5)))


def paint_shoulders(picture: np.ndarray, person: Identity, pose: Pose, light: Light) -> None:
    """Paint neck and shirt under a head, in place; they follow the head without its roll."""
    height, width = picture.shape[:2]
    top = max(0, int(pose.y + 0.45 * pose.scale))
    region = picture[top:]
    x = (np.arange(width, dtype=np.float32) - pose.x) / pose.scale
    y = (np.arange(top, height, dtype=np.float32)[:, None] - pose.y) / pose.scale
    brightness = np.array(light.lamp, np.float32) * 0.75 + np.array(light.ambient, np.float32)
    turn = (1 + 0.3 * light.direction[0] * np.clip(x, -1, 1)) * np.sqrt(np.clip(1 - (0.55 * x) ** 2, 0.1, 1))
    under_chin = 0.50 + 0.35 * np.clip((y - 0.95) / 0.5, 0, 1)
    neck = np.abs(x) - person.neck_width - 0.5 * np.clip(y - 1.25, 0, 1) ** 2
    skin = np.array(person.skin, np.float32) * brightness
    paint(region, skin * (turn * under_chin)[..., None], np.clip(0.5 - neck * pose.scale / 1.5, 0, 1) * np.ones_like(y))
    collar = 1.18 + 0.28 * np.clip(1 - np.abs(x) / 0.55, 0, 1) + 0.22 * np.clip(np.abs(x) - 0.5, 0, 2) ** 1.5
    shirt = np.clip(0.5 + (y - collar) * pose.scale / 1.5, 0, 1)
    folds = 1 + 0.07 * np.sin(7 * x + 3 * y) - 0.25 * np.exp(-np.clip(y - collar, 0, 1) / 0.06)
    paint(region, np.array(person.shirt, np.float32) * brightness * (turn * folds)[..., None], shirt)


def render(background: np.ndarray, person: Identity, pose: Pose, face: Expression, light: Light) -> np.ndarray:
    """Return the clean picture (H, W, 3) float32 of `person` before `background`; values may pass 1 at highlights."""
    picture = background.copy()
    shoulders = Pose(pose.x - 0.10 * pose.yaw * pose.scale, pose.y, pose.scale, 0.0, 0.0, 0.0)
    paint_shoulders(picture, person, shoulders, light)
    paint_head(picture, person, pose, face, light)
    return picture
