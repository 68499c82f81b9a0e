"""Self-information attention: a feature counts for more the less its neighbours foretell it."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.ops.full_precision import full_precision

Scope = Literal["image", "batch"]
# How many of the next channels a channel is compared with.
_NEXT = 5
# Before the logarithm, as the authors have it: self-information is at most −ln 0.1.
_FLOOR = 0.1


class SelfInformation(nn.Module):
    """Weigh a map's places and channels by how unexpected they are. No gradient passes through the weights.

    With d the deviation of every feature, from the 3 × 3 around it and half as much from other channels, and u = d / 2 mean(d),

        y = x · (1 + sigmoid(u)) · (1 + mean over places of −ln(exp(−u) + 0.1))

    The window's weights are no parameters: they stand in published checkpoints, and are nine times the centre minus the sum.

    Args:
        channels: of the map.
        scope: the mean deviation is each image's own, or one for the batch.
    """

    window: Tensor
    centre: Tensor
    differences: Tensor

    def __init__(self, channels: int, scope: Scope):
        super().__init__()
        self.scope = scope
        self.register_buffer("window", torch.ones(channels, 1, 3, 3))
        self.register_buffer("centre", torch.full((channels, 1, 1, 1), 9.0))
        self.register_buffer("differences", channel_differences(channels), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighed map and u, both `(B, C, h, w)`."""
        unexpected = self.unexpected(x)
        information = -(torch.exp(-unexpected) + _FLOOR).log()
        channel = 1 + information.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return x * (1 + unexpected.sigmoid()) * channel, unexpected

    @torch.no_grad()
    @full_precision
    def unexpected(self, x: Tensor) -> Tensor:
        """Return u `(B, C, h, w)`: at least 0, 0.5 on average."""
        x = x.float()
        kernel = F.pad(self.centre, (1, 1, 1, 1)) - self.window
        within = F.conv2d(x, kernel, padding=1, groups=len(kernel)).abs()
        between = torch.einsum("oc,bchw->bohw", self.differences, x).abs()
        deviation = within + 0.5 * between
        mean = deviation.mean((1, 2, 3), keepdim=True) if self.scope == "image" else deviation.mean()
        return deviation / (2 * mean).clamp_min(1e-12)  # nothing deviates in a constant map


def channel_differences(channels: int) -> Tensor:
    """Return the matrix `(C, C)` that makes of a place's channels C sums of five differences between them.

    The differences x[c] − x[c + i] (round the end) stand in a row, all channels of i = 1, then those of i = 2 … 5; each five
    that follow one another are summed. So a sum is over five channels at one distance, not over five distances of one channel,
    as published weights have it.
    """
    same = torch.eye(channels)
    rows = torch.cat([same - same.roll(-i, dims=0) for i in range(1, _NEXT + 1)])  # (5 C, C)
    return rows.view(channels, _NEXT, channels).sum(1)


class Link(nn.Sequential):
    """Bring the attention `(B, in, h, w)` of one stage to the channels and size of a later one's map."""

    def __init__(self, incoming: int, outgoing: int):
        super().__init__(nn.Conv2d(incoming, outgoing, 1), nn.BatchNorm2d(outgoing), nn.ReLU())

    def onto(self, attention: Tensor, target: Tensor) -> Tensor:
        """Return what the attention adds to the map `target`, of its shape."""
        return F.adaptive_max_pool2d(self(attention), target.shape[-2:])
