"""Degraded views of images on the device: JPEG's quantisation, and blur. For the consistency loss, not for evaluation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.ops.band_matrix import gaussian_blur
from training.ops.dct import dct_matrix
from training.ops.full_precision import full_precision

# Luminance table of the JPEG standard (ITU-T T.81, annex K.1).
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@torch.no_grad()
@full_precision
def quantise_blocks(image: Tensor, quality: Tensor) -> Tensor:
    """Return images `(B, 3, H, W)` in [0, 1] after 8×8 DCT quantisation at JPEG qualities `(B,)` in 1 … 100.

    Every channel uses the luminance table and keeps its resolution: the loss of high frequencies and the block edges of
    JPEG, without its colour subsampling.
    """
    height, width = image.shape[-2:]
    padded = F.pad(image.float() * 255 - 128, (0, -width % 8, 0, -height % 8), mode="replicate")
    matrix = dct_matrix(8).to(image.device)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality) / 100
    table = torch.tensor(_LUMINANCE, device=image.device, dtype=torch.float32)
    steps = torch.floor(table * scale[:, None, None] + 0.5).clamp_min(1)[:, None, None, None]  # (B, 1, 1, 1, 8, 8)
    blocks = padded.unflatten(2, (-1, 8)).unflatten(4, (-1, 8)).transpose(3, 4)  # (B, 3, rows, columns, 8, 8)
    coefficients = matrix @ blocks @ matrix.T
    blocks = matrix.T @ (torch.round(coefficients / steps) * steps) @ matrix
    restored = blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return ((restored[..., :height, :width] + 128) / 255).clamp(0, 1)


@torch.no_grad()
@full_precision
def blur(image: Tensor, sigma: float) -> Tensor:
    """Return images `(B, 3, H, W)` after a Gaussian blur of sigma pixels."""
    return gaussian_blur(image.float(), sigma)


@torch.no_grad()
def degraded_view(image: Tensor) -> Tensor:
    """Return, per image at random, a compressed (quality 30 to 80) or blurred (σ 0.5 to 1.5) view."""
    size = len(image)
    quality = 30 + 50 * torch.rand(size, device=image.device)
    sigma = 0.5 + float(torch.rand(1))
    compress = torch.rand(size, device=image.device) < 0.5
    return torch.where(compress[:, None, None, None], quantise_blocks(image, quality), blur(image, sigma).clamp(0, 1))
