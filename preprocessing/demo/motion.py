"""Smooth movement: where the head is, where it looks and what the face does, frame by frame."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pose:
    """Where the head is. `x`, `y`, `scale` in pixels (scale: half the head's height), angles in radians."""

    x: float
    y: float
    scale: float
    roll: float
    yaw: float
    pitch: float


@dataclass(frozen=True)
class Expression:
    """What the face does. Shares in [0, 1], except `smile`, `gaze_x` and `gaze_y` in [-1, 1]."""

    smile: float = 0.0
    mouth_open: float = 0.0
    brow_raise: float = 0.0
    eye_open: float = 1.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


@dataclass(frozen=True)
class Performance:
    """One video's movement: a pose and an expression for every frame."""

    poses: tuple[Pose, ...]
    expressions: tuple[Expression, ...]


def wave(rng: np.random.Generator, frames: int, turns: float = 1.5) -> np.ndarray:
    """A smooth curve of `frames` values within [-1, 1]: a few sines of random phase and speed."""
    time = np.linspace(0, 1, frames)
    curve = np.zeros(frames)
    for weight in (0.6, 0.3, 0.1):
        speed = turns * rng.uniform(0.5, 1.5) / weight * 0.5
        curve += weight * np.sin(2 * np.pi * (speed * time + rng.random()))
    return curve


def perform(
    rng: np.random.Generator, frames: int, size: tuple[int, int], head: tuple[float, float], turn: float
) -> Performance:
    """Draw a performance of `frames` frames for a picture of `size` (height, width).

    `head` bounds the head's half height as a share of the picture's height; `turn` is the largest yaw in radians.
    """
    height, width = size
    scale = height * rng.uniform(*head) * (1 + 0.03 * wave(rng, frames, 0.7))
    x = width * (0.5 + 0.04 * rng.uniform(-1, 1)) + 0.025 * width * wave(rng, frames)
    y = height * (0.475 + 0.015 * rng.uniform(-1, 1)) + 0.015 * height * wave(rng, frames)
    roll, yaw, pitch = 0.07 * wave(rng, frames), turn * wave(rng, frames), 0.09 * wave(rng, frames)
    poses = tuple(Pose(*map(float, values)) for values in zip(x, y, scale, roll, yaw, pitch, strict=True))
    return Performance(poses, act(rng, frames))


def act(rng: np.random.Generator, frames: int) -> tuple[Expression, ...]:
    """Draw the expressions of a talking, blinking person."""
    smile = np.clip(0.25 + 0.65 * wave(rng, frames, 1.0), -0.4, 1)
    mouth_open = np.clip(0.15 + 0.85 * wave(rng, frames, 3.0), 0, 1) * rng.uniform(0.5, 1.0)
    brow_raise = np.clip(wave(rng, frames, 1.2), 0, 1)
    eye_open = 0.9 + 0.1 * wave(rng, frames, 1.0)
    blink = int(rng.integers(1, max(2, frames - 1)))
    for offset, openness in ((-1, 0.5), (0, 0.08), (1, 0.55)):
        if 0 <= blink + offset < frames:
            eye_open[blink + offset] *= openness
    gaze_x, gaze_y = 0.7 * wave(rng, frames, 1.3), 0.4 * wave(rng, frames, 1.3)
    tracks = zip(smile, mouth_open, brow_raise, eye_open, gaze_x, gaze_y, strict=True)
    return tuple(Expression(*map(float, values)) for values in tracks)
