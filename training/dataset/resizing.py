"""How a sample is brought to a detector's size; without torch."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np


def resize(sample: dict[str, Any], size: int, interpolation: tuple[int, int] | None = None) -> None:
    """Bring a sample's image, mask and landmarks to `size` pixels square, in place.

    The field's cubic interpolation, so that published weights see what they were trained on; area averaging below half the
    size, where cubic would alias.
    """
    height, width = sample["image"].shape[:2]
    shrink, enlarge = interpolation or (cv2.INTER_CUBIC, cv2.INTER_CUBIC)
    if interpolation is None and 2 * size < min(height, width):
        shrink = cv2.INTER_AREA
    chosen = shrink if size < min(height, width) else enlarge
    sample["image"] = cv2.resize(sample["image"], (size, size), interpolation=chosen)
    if "mask" in sample:
        soft = sample["mask"].dtype.kind == "f"
        nearest = cv2.INTER_LINEAR if soft else cv2.INTER_NEAREST_EXACT
        sample["mask"] = cv2.resize(sample["mask"], (size, size), interpolation=nearest)
    if "landmark" in sample:
        # Coordinates count from the middle of the first pixel, as everywhere in OpenCV.
        scale = np.array([size / width, size / height], np.float32)
        sample["landmark"] = ((sample["landmark"] + 0.5) * scale - 0.5).astype(np.float32)
