"""Attention-guided data augmentation: an image blurred where one of its attention maps, drawn at random, looks."""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.ops.band_matrix import band_matrix
from training.ops.full_precision import full_precision


@torch.no_grad()
@full_precision
def blurred_where_attended(
    image: Tensor,
    attention: Tensor,
    *,
    threshold: list[float],
    zoom: list[float],
    scale: float,
    kernel: int,
    sigma: float,
    noise: float,
) -> Tensor:
    """Return images `(B, 3, H, W)` in which one attended region each has lost its detail: x·(1 − g) + degraded(x)·g.

    Args:
        image: normalised. attention: `(B, M, h, w)`, non-negative.
        threshold, zoom: between which an image's gate draws its middle and its steepness (`gate`).
        scale, kernel, sigma, noise: of `degraded`.
    """
    image = image.float()
    chosen = drawn_map(attention.float())  # (B, 1, h, w)
    mask = F.interpolate(chosen, size=image.shape[-2:], mode="bilinear", align_corners=True)
    mask = mask / mask.amax((2, 3), keepdim=True).clamp_min(1e-8)
    mask = gate(mask, _between(threshold, image), _between(zoom, image))
    return image + mask * (degraded(image, scale, kernel, sigma, noise) - image)


def drawn_map(attention: Tensor) -> Tensor:
    """Return one map of each image `(B, 1, h, w)`; a map is drawn the more often the more it attends to."""
    index = torch.multinomial((attention.sum((2, 3)) + 1).sqrt(), 1)  # (B, 1)
    return attention.gather(1, index[:, :, None, None].expand(-1, -1, *attention.shape[-2:]))


def gate(mask: Tensor, middle: Tensor, steepness: Tensor) -> Tensor:
    """Return a soft step of masks in [0, 1] around the middle: 0 at 0, rising with the steepness."""
    floor = torch.sigmoid(-middle * steepness)
    return (torch.sigmoid((mask - middle) * steepness) - floor) / (1 - floor)


def degraded(image: Tensor, scale: float, kernel: int, sigma: float, noise: float) -> Tensor:
    """Return images made smaller by `scale`, blurred by a Gaussian cut off after `kernel` pixels, noisy, and large again."""
    size = image.shape[-2:]
    small = F.interpolate(image, size=[max(1, int(side * scale)) for side in size], mode="bilinear", align_corners=True)
    rows, columns = (_blur_matrix(kernel, sigma, side).to(image) for side in small.shape[-2:])
    small = rows @ small @ columns.T
    small = small + noise * torch.randn_like(small)
    return F.interpolate(small, size=size, mode="bilinear", align_corners=True)


def _blur_matrix(kernel: int, sigma: float, side: int) -> Tensor:
    place = torch.arange(kernel, dtype=torch.float64) - (kernel - 1) / 2
    line = torch.exp(-(place**2) / (2 * sigma**2))
    return band_matrix(tuple((line / line.sum()).tolist()), side, -(kernel // 2), 1, side, "replicate")


def _between(bounds: list[float], like: Tensor) -> Tensor:
    """Return one number per image, uniform between two bounds, `(B, 1, 1, 1)`."""
    low, high = bounds
    return low + (high - low) * torch.rand(len(like), 1, 1, 1, device=like.device)
