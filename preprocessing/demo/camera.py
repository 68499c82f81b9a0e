"""What a camera does to every frame of a video, real or later falsified: softness and sensor noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Camera:
    """One video's camera. `softness`: blur in pixels; `noise`: standard deviation at mid grey; `gamma`: tone curve."""

    softness: float
    noise: float
    gamma: float

    def film(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the recorded frame `(H, W, 3)` float32 in [0, 1] of a clean picture."""
        tone = np.clip(picture, 0, 1) ** np.float32(self.gamma)
        if self.softness > 0.2:
            tone = cv2.GaussianBlur(tone, (0, 0), self.softness)
        return np.clip(tone + self.grain(tone, rng), 0, 1).astype(np.float32)

    def grain(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return sensor noise for a picture: stronger in the light, slightly correlated between neighbours."""
        white = rng.standard_normal(picture.shape, np.float32)
        smooth = cv2.GaussianBlur(white, (0, 0), 0.6) * 1.9
        return (self.noise * np.sqrt(0.3 + np.clip(picture, 0, 1)) * smooth).astype(np.float32)


def draw_camera(rng: np.random.Generator, softness: tuple[float, float], noise: tuple[float, float]) -> Camera:
    """Draw the camera of one video."""
    return Camera(float(rng.uniform(*softness)), float(rng.uniform(*noise)), float(rng.uniform(0.9, 1.1)))
