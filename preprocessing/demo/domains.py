"""The three demo data sets: how their heads are lit, filmed, compressed and falsified."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.demo.forgery import Recipe
from preprocessing.demo.scene import LightRange


@dataclass(frozen=True)
class Method:
    """A manipulation. `swap`: shows the source's face; otherwise the target's own face acts something else.

    `scale`, `feather`, `gain`, `sharpen`: bounds to draw a video's Recipe from.
    """

    name: str
    swap: bool
    shape: str
    blend: str
    scale: tuple[float, float]
    feather: tuple[float, float]
    gain: float
    sharpen: tuple[float, float]
    interpolation: int

    def draw(self, rng: np.random.Generator) -> Recipe:
        """Draw how one video is falsified."""
        gain = 1 + self.gain * rng.uniform(-1, 1, 3)
        shift = rng.uniform(-0.5, 0.5, 2)
        return Recipe(
            self.shape,
            float(rng.uniform(*self.feather)),
            float(rng.uniform(*self.scale)),
            self.interpolation,
            (float(gain[0]), float(gain[1]), float(gain[2])),
            float(rng.uniform(*self.sharpen)),
            (float(shift[0]), float(shift[1])),
        )


@dataclass(frozen=True)
class Domain:
    """A data set's habits. `size`: (height, width), even; `head`: half head height as a share of the height."""

    name: str
    size: tuple[int, int]
    head: tuple[float, float]
    turn: float
    light: LightRange
    backgrounds: tuple[str, ...]
    softness: tuple[float, float]
    noise: tuple[float, float]
    crf: int
    preset: str
    methods: tuple[Method, ...]


FORENSICS = Domain(
    "DemoForensics", (240, 320), (0.31, 0.36), 0.28,
    LightRange(0.6, (0.65, 0.9), (0.3, 0.5), (0.2, 0.6), (0.05, 0.2), (0.0, 0.1), 0.08), ("studio", "room"),
    (0.0, 1.4), (0.008, 0.02), 20, "veryfast",
    (
        Method("Deepfakes", True, "oval", "alpha", (0.2, 0.32), (2, 5), 0.12, (0.1, 0.5), cv2.INTER_CUBIC),
        Method("Face2Face", False, "hull", "alpha", (0.24, 0.38), (1, 3), 0.1, (0.1, 0.6), cv2.INTER_LINEAR),
        Method("FaceSwap", True, "hull", "alpha", (0.28, 0.42), (0.5, 1.5), 0.14, (0.1, 0.5), cv2.INTER_LINEAR),
        Method("NeuralTextures", False, "mouth", "alpha", (0.2, 0.32), (1, 3), 0.1, (0.1, 0.5), cv2.INTER_CUBIC),
    ),
)  # fmt: skip

CELEB = Domain(
    "DemoCeleb", (256, 336), (0.32, 0.37), 0.35,
    LightRange(1.0, (0.8, 1.1), (0.15, 0.3), (0.0, 0.25), (0.15, 0.35), (0.05, 0.2), 0.14), ("studio",),
    (0.0, 1.4), (0.006, 0.016), 22, "fast",
    (
        Method("Synthesis", True, "oval", "poisson", (0.2, 0.34), (1, 3), 0.12, (0.1, 0.5), cv2.INTER_LANCZOS4),
        Method("Synthesis", True, "hull", "multiband", (0.2, 0.34), (1, 3), 0.12, (0.1, 0.5), cv2.INTER_LANCZOS4),
    ),
)  # fmt: skip

WILD = Domain(
    "DemoWild", (272, 368), (0.29, 0.35), 0.30,
    LightRange(0.8, (0.5, 0.8), (0.4, 0.7), (0.4, 0.9), (0.02, 0.1), (0.0, 0.05), 0.18), ("street", "room"),
    (0.0, 1.55), (0.01, 0.024), 23, "medium",
    (
        Method("Wild", True, "hull", "multiband", (0.2, 0.34), (1, 3), 0.12, (0.1, 0.5), cv2.INTER_CUBIC),
        Method("Wild", False, "oval", "alpha", (0.22, 0.36), (2, 5), 0.12, (0.1, 0.5), cv2.INTER_AREA),
        Method("Wild", True, "oval", "poisson", (0.2, 0.34), (1, 3), 0.12, (0.1, 0.5), cv2.INTER_LINEAR),
    ),
)  # fmt: skip
