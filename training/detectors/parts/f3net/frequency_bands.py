"""Bands of the discrete cosine transform that learn where they lie.

F³-Net's two views of an image (Qian et al., "Thinking in Frequency", ECCV 2020, sections 3.1 and 3.2): the whole picture split
into components, and statistics of small windows, band by band. Every band filter is a fixed mask plus a learned part in (−1, 1).
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.ops.dct import dct_matrix
from training.ops.full_precision import full_precision

# Deviation of a learned part before it is squashed.
_SPREAD = 0.1


def diagonal_band(size: int, low: float, high: float) -> Tensor:
    """Return the mask `(size, size)` of frequencies with low <= row + column <= high."""
    place = np.arange(size)
    order = place[:, None] + place
    return torch.from_numpy((order >= low) & (order <= high)).float()


def squashed(learned: Tensor) -> Tensor:
    """Return the learned part of filters, in (−1, 1): 2 · sigmoid(w) − 1."""
    return torch.tanh(learned / 2)


class FrequencyComponents(nn.Module):
    """FAD: an image as the sum of what its low, middle and high frequencies draw, and all of them once more.

    The bands end at the diagonals size / 2.82 and size / 2, so that they hold about 1/16, 1/16 and 7/8 of the spectrum.
    """

    channels = 12
    dct: Tensor
    inverse: Tensor
    band: Tensor

    def __init__(self, size: int):
        """`size` is the side of the square images."""
        super().__init__()
        # Kept with the weights: published ones hold them, both the matrix and its transpose.
        self.register_buffer("dct", dct_matrix(size))
        self.register_buffer("inverse", dct_matrix(size).T.contiguous())
        low, middle, all_of_it = size // 2.82, size // 2, 2 * size
        edges = [(0, low), (low, middle), (middle, all_of_it), (0, all_of_it)]
        self.register_buffer("band", torch.stack([diagonal_band(size, *edge) for edge in edges]))  # (4, S, S)
        self.learned = nn.Parameter(torch.randn(4, size, size) * _SPREAD)

    def forward(self, image: Tensor) -> Tensor:
        """Return `(B, 12, S, S)` of images `(B, 3, S, S)`: the components in turn, each in three colours."""
        return self._split(image)

    @full_precision
    def _split(self, image: Tensor) -> Tensor:
        spectrum = self.dct @ image.float() @ self.inverse  # (B, 3, S, S)
        filters = (self.band + squashed(self.learned)).unsqueeze(1)  # (4, 1, S, S)
        parts = self.inverse @ (spectrum.unsqueeze(1) * filters) @ self.dct  # (B, 4, 3, S, S)
        return parts.flatten(1, 2)


class LocalStatistics(nn.Module):
    """LFS: how much of every band there is around each place, log10 of the filtered coefficients' summed magnitudes.

    Windows of 10×10 pixels slide by 2 over the grey image; six bands of equal width (the paper's figures).
    """

    channels = 6
    kernel: Tensor
    band: Tensor
    grey: Tensor

    def __init__(self, window: int = 10, stride: int = 2, padding: int = 4):
        super().__init__()
        self.stride, self.padding = stride, padding
        rows = dct_matrix(window)
        kernel = torch.einsum("ui,vj->uvij", rows, rows).reshape(window * window, 1, window, window)
        self.register_buffer("kernel", kernel, persistent=False)  # one convolution is the DCT of all windows
        edges = np.linspace(0, 2 * window, self.channels + 1)
        bands = [diagonal_band(window, low, high) for low, high in pairwise(edges)]
        self.register_buffer("band", torch.stack(bands).flatten(1), persistent=False)  # (6, window²)
        self.register_buffer("grey", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1), persistent=False)
        self.learned = nn.Parameter(torch.randn(self.channels, window * window) * _SPREAD)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return `(B, 6, ~H/2, ~W/2)` of images `(B, 3, H, W)` in [0, 255]."""
        return self._measure(pixels)

    @full_precision
    def _measure(self, pixels: Tensor) -> Tensor:
        grey = (pixels.float() * self.grey).sum(dim=1, keepdim=True)
        size = F.conv2d(grey, self.kernel, stride=self.stride, padding=self.padding).abs()  # (B, window², h, w)
        filters = (self.band + squashed(self.learned)).abs()  # |filter · coefficient| = |filter| · |coefficient|
        return torch.log10(F.conv2d(size, filters[:, :, None, None]) + 1e-15)
