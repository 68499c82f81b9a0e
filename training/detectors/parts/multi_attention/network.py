"""Multi-attention's network parts: where to look, texture made plain, and features pooled under attention."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.ops.full_precision import full_precision

# Attention is kept off the border: on a grid of so many places, this many at each edge. Other sizes take their nearest place.
_GRID, _BORDER = 24, 2


class AttentionMaps(nn.Module):
    """A deep map `(B, C, h, w)` → M non-negative attention maps `(B, M, h, w)`, zero at the border."""

    def __init__(self, channels: int, attentions: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, attentions, 1, bias=False),
            nn.BatchNorm2d(attentions),
            nn.ELU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        attention = self.layers(x) + 1
        rows, columns = (inside(side, x.device) for side in attention.shape[-2:])
        return attention * (rows[:, None] & columns)


def inside(side: int, device: torch.device | None = None) -> Tensor:
    """Return `(side,)` bool: which places along a side do not belong to the border."""
    place = torch.arange(side, device=device) * _GRID // side
    return (place >= _BORDER) & (place < _GRID - _BORDER)


class TextureEnhancement(nn.Module):
    """A shallow map's deviations from its local means, through three densely connected convolutions.

    `(B, C, H, W)` and a grid's size → texture `(B, 4C, H, W)` and the local means on that grid `(B, C, h, w)`.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = 4 * channels
        self.enter = nn.Conv2d(channels, channels, 1)
        self.dense = nn.ModuleList(_layer(count * channels, channels, 3) for count in (1, 2, 3))
        self.leave = nn.Sequential(_layer(4 * channels, 4 * channels, 1), nn.BatchNorm2d(4 * channels))

    def forward(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        means = F.adaptive_avg_pool2d(x, grid)
        found = self.enter(x - F.interpolate(means, size=x.shape[-2:], mode="nearest"))
        for layer in self.dense:
            found = torch.cat([found, layer(found)], dim=1)
        return self.leave(found), means


def _layer(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), convolution)


@full_precision
def pooled(features: Tensor, attention: Tensor) -> Tensor:
    """Return sums of features `(B, C, H, W)` weighted by each attention map `(B, M, h, w)`: `(B, M, C)`."""
    weights = F.interpolate(attention.float(), size=features.shape[-2:], mode="bilinear", align_corners=True)
    return weights.flatten(2) @ features.float().flatten(2).transpose(1, 2)


def directions(features: Tensor, attention: Tensor) -> Tensor:
    """Return what `pooled` does, each vector of unit length: one for every region."""
    return F.normalize(pooled(features, attention), dim=2)


def global_mean(features: Tensor, attention: Tensor) -> Tensor:
    """Return the mean of features under all attention maps together, `(B, C)`."""
    together = attention.float().sum(1, keepdim=True)
    # The weight of a place under the resized map, as `pooled` has it: what pooling makes of ones.
    weight = pooled(torch.ones_like(features[:, :1]), together)
    return (pooled(features, together) / weight.clamp_min(1e-6)).squeeze(1)
