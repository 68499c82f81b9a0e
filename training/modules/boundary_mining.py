"""Boundary Mining: soft weights W that say where a face may have been put together, and steer the fusion there.

A blend leaves a seam: noise, sharpness or colour change across a line that the face's own geometry does not explain. Fixed
filters bring that out of the de-normalised image: a Gaussian high-pass residual, three SRM residuals (Fridrich & Kodovsky,
IEEE TIFS 2012, in the selection of Zhou et al., CVPR 2018) and an edge operator. A small network over them gives W in [0, 1].
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from training.config.schema import Positive, Section
from training.modules.freq_adapter import squash
from training.ops.band_matrix import gaussian_blur
from training.ops.full_precision import full_precision
from training.ops.srm_filters import srm_filters

_LUMA = (0.299, 0.587, 0.114)


class BoundaryConfig(Section):
    """Keys of Boundary Mining."""

    enabled: bool = True
    edge: Literal["sobel", "canny"] = Field("sobel", description="Sobel passes gradients to the image; Canny does not")
    sigma: Positive = Field(1.5, description="of the Gaussian high-pass, in pixels")
    channels: int = Field(24, ge=4, le=4096)


def sobel(gray: Tensor) -> Tensor:
    """Return the gradient magnitude of `(B, 1, H, W)`, same shape; differentiable everywhere."""
    x = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=gray.device, dtype=gray.dtype) / 8
    kernels = torch.stack([x, x.T])[:, None]
    gradient = F.conv2d(F.pad(gray, (1, 1, 1, 1), mode="replicate"), kernels)  # (B, 2, H, W)
    return torch.sqrt(gradient.square().sum(dim=1, keepdim=True) + 1e-12)


@torch.no_grad()
def canny(gray: Tensor, low: int = 50, high: int = 120) -> Tensor:
    """Return Canny's edges of `(B, 1, H, W)` in [0, 1] as zeros and ones. No gradient passes: thinning has none."""
    import cv2
    import numpy as np

    images = (gray[:, 0].float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    edges = np.stack([cv2.Canny(image, low, high) for image in images])
    return torch.from_numpy(edges)[:, None].to(gray) / 255


def _layer(inside: int, outside: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    """Return convolution, BatchNorm (it keeps how strong a residual is beside other images) and GELU."""
    convolution = nn.Conv2d(inside, outside, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
    return [convolution, nn.BatchNorm2d(outside), nn.GELU()]


class BoundaryMining(nn.Module):
    """Image in [0, 1] → W `(B, 1, h, w)` in [0, 1]."""

    srm: Tensor
    luma: Tensor

    def __init__(self, config: BoundaryConfig):
        super().__init__()
        self.config = config
        self.register_buffer("srm", srm_filters()[[2, 0, 1]][:, None], persistent=False)
        self.register_buffer("luma", torch.tensor(_LUMA).view(1, 3, 1, 1), persistent=False)
        c = config.channels
        answer = nn.Conv2d(2 * c, 1, 1)
        # A seam is told from the face's own edges by what lies on its two sides: the last layer sees 55 pixels across.
        self.net = nn.Sequential(
            *_layer(8, c, stride=2),
            *_layer(c, 2 * c, stride=2),
            *_layer(2 * c, 2 * c, dilation=2),
            *_layer(2 * c, 2 * c, dilation=4),
            answer,
        )
        # Before anything is learnt, W already follows the residual: the network starts silent beside this prior.
        nn.init.zeros_(answer.weight)
        nn.init.constant_(answer.bias, -1.0)  # type: ignore[arg-type]  # most cells hold no seam
        self.prior = nn.Parameter(torch.tensor(1.0))

    @full_precision
    def evidence(self, image: Tensor) -> Tensor:
        """Return the fixed filters' answers `(B, 8, H, W)`: Gaussian residual of R, G, B; its amount; three SRM; edges."""
        image = image.float()
        gray = (image * self.luma).sum(dim=1, keepdim=True)
        residual = image - gaussian_blur(image, self.config.sigma)  # (B, 3, H, W)
        noise = F.conv2d(F.pad(gray, (2, 2, 2, 2), mode="replicate"), self.srm)  # (B, 3, H, W)
        edges = sobel(gray) if self.config.edge == "sobel" else canny(gray)
        amount = residual.abs().mean(dim=1, keepdim=True)
        return torch.cat([squash(residual), squash(amount), squash(noise), edges], dim=1)

    def forward(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return W on the patch grid.

        The network answers per 4 × 4 pixels; a cell of the grid takes its strongest answers, softly, since a seam crosses a
        patch in a thin line.
        """
        evidence = self.evidence(image)
        # The residual's amount, (B, 1, H / 4, W / 4), in the two halvings of the network, which also round up.
        amount = F.avg_pool2d(F.avg_pool2d(evidence[:, 3:4], 2, ceil_mode=True), 2, ceil_mode=True)
        mean, spread = amount.mean(dim=(2, 3), keepdim=True), amount.std(dim=(2, 3), keepdim=True)
        logits = self.net(evidence) + self.prior * (amount - mean) / (spread + 1e-3)
        # Log-mean-exp over the cell: between mean and maximum, with gradients to all of it.
        sharp = 4.0
        top = logits.detach().amax(dim=(2, 3), keepdim=True)
        pooled = F.adaptive_avg_pool2d(torch.exp(sharp * (logits - top)), grid)
        return torch.sigmoid(torch.log(pooled.clamp_min(1e-12)) / sharp + top)


def weighted_pool(tokens: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean `(B, D)` of tokens `(B, N, D)`, weighted by W `(B, 1, h, w)` where one is given."""
    if weights is None:
        return tokens.mean(dim=1)
    share = weights.flatten(1).to(tokens.dtype)  # (B, N)
    share = share / share.sum(dim=1, keepdim=True).clamp_min(1e-6)
    return torch.einsum("bn,bnd->bd", share, tokens)
