"""Whether a map of a detector shows what its answer rests on: deletion and insertion, heat inside the true mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID = 14  # cells to a side when pixels are taken away or given back


def cell_order(heat: NDArray, cells: int = GRID) -> NDArray[np.int64]:
    """Return the cells of a grid over one map `(H, W)`, hottest first."""
    rows, columns = (np.arange(side) * cells // side for side in heat.shape)
    code = rows[:, None] * cells + columns[None]
    mean = np.bincount(code.ravel(), heat.ravel(), cells * cells) / np.bincount(code.ravel(), minlength=cells * cells)
    return np.argsort(-mean, kind="stable")


def deletion_insertion(
    detector: Any, image: NDArray[np.uint8], order: NDArray[np.int64], steps: int = 10, cells: int = GRID
) -> tuple[float, float]:
    """Return the areas under the deletion and the insertion curve of one image or clip (Petsiuk et al., BMVC 2018).

    Of a clip `(T, 3, H, W)` a cell is a place in all frames; an image is `(3, H, W)`.
    Cells are blurred away (deletion) or given back to the blurred image (insertion) in `order`, and the fake probability is
    followed over the share of cells. A faithful map has a low deletion area and a high insertion area, if the image is fake.
    """
    import cv2

    from prediction.trained import predict_images

    height, width = image.shape[-2:]
    blurred = np.empty_like(image)
    for place, frame in zip(blurred.reshape(-1, 3, height, width), image.reshape(-1, 3, height, width), strict=True):
        pixels = np.ascontiguousarray(frame.transpose(1, 2, 0))
        place[:] = cv2.GaussianBlur(pixels, (0, 0), max(height, width) / 16).transpose(2, 0, 1)
    code = (np.arange(height) * cells // height)[:, None] * cells + (np.arange(width) * cells // width)[None]
    rank = np.empty(cells * cells, np.int64)
    rank[order] = np.arange(cells * cells)
    shares = np.linspace(0, 1, steps + 1)
    hot = [(rank < round(share * cells * cells))[code] for share in shares]  # (H, W) each
    deleted = np.stack([np.where(mask, blurred, image) for mask in hot])
    inserted = np.stack([np.where(mask, image, blurred) for mask in hot])
    at_once = 32 if image.ndim == 3 else max(1, 32 // len(image))
    prob = predict_images(detector, np.concatenate([deleted, inserted]), at_once)
    return float(np.trapezoid(prob[: steps + 1], shares)), float(np.trapezoid(prob[steps + 1 :], shares))


def mass_inside(heat: NDArray, mask: NDArray) -> tuple[float, float]:
    """Return the share of a map's `(H, W)` heat inside a mask `(H, W)`, and the mask's share of the area (chance)."""
    inside = np.asarray(mask) > 0
    return float(heat[inside].sum() / max(float(heat.sum()), 1e-12)), float(inside.mean())
