"""Filters along one side of an image as matrices: exact at the borders, and much faster than one-channel convolutions."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Extension = Literal["replicate", "symmetric"]


@lru_cache(maxsize=64)
def band_matrix(
    taps: tuple[float, ...], size: int, start: int, stride: int, count: int, extension: Extension
) -> Tensor:
    """Return the `(count, size)` float64 matrix whose row i holds `taps` from position `start + i · stride` on.

    What falls outside 0 … size − 1 is brought back by the extension: `replicate` repeats the border value, `symmetric` mirrors
    with it (half-sample symmetry, as often as needed). The product with a signal is its correlation with the taps.
    """
    # Made outside of any inference mode: the cached matrix must serve training, too.
    with torch.inference_mode(False):
        place = start + stride * torch.arange(count)[:, None] + torch.arange(len(taps))  # (count, k)
        if extension == "replicate":
            place = place.clamp(0, size - 1)
        else:
            place = place % (2 * size)
            place = torch.where(place < size, place, 2 * size - 1 - place)
        values = torch.tensor(taps, dtype=torch.float64).expand(count, -1)
        return torch.zeros(count, size, dtype=torch.float64).scatter_add_(1, place, values)


@lru_cache(maxsize=64)
def gaussian_matrix(sigma: float, size: int) -> Tensor:
    """Return the `(size, size)` matrix of a Gaussian blur along a side; the kernel reaches 3σ, borders are replicated."""
    taps = tuple(gaussian_line(sigma).tolist())
    return band_matrix(taps, size, -(len(taps) // 2), 1, size, "replicate")


def gaussian_line(sigma: float) -> Tensor:
    """Return a normalised Gaussian `(k,)`, k odd, reaching 3σ; the two-dimensional one is its product with itself."""
    reach = max(1, round(3 * sigma))
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    line = torch.exp(-(place**2) / (2 * sigma**2))
    return line / line.sum()


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Return `(…, H, W)` after a Gaussian blur of sigma pixels, borders replicated."""
    height, width = image.shape[-2:]
    rows, columns = gaussian_matrix(sigma, height).to(image), gaussian_matrix(sigma, width).to(image)
    return rows @ image @ columns.T
