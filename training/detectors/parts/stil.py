"""STIL's block: what is inconsistent within a frame, between neighbouring frames, and how one supplements the other.

Gu et al., "Spatiotemporal Inconsistency Learning for DeepFake Video Detection", ACM MM 2021, sections 3.2 to 3.4. The frames of
clips stand one after another `(B·T, C, H, W)`. Time never needs an axis of its own in a convolution here: a difference of
neighbours is one of slices, and kernels run along height or width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_REDUCTION = 16  # of channels, before frames are compared
_GATE = 4  # how many times smaller the map is that gates the spatial branch
_FOLDS = 8  # two of so many parts of the channels begin as copies of the next and of the previous frame
TALL, WIDE = (3, 1), (1, 3)


def convolution(
    inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size of the map, but for its stride."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv2d(inputs, outputs, sides, stride, (sides[0] // 2, sides[1] // 2), groups=groups, bias=False)


def normed(inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1) -> nn.Sequential:
    """Return a convolution and its BatchNorm."""
    return nn.Sequential(convolution(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs))


def pooled(x: Tensor, kernel: tuple[int, int]) -> Tensor:
    """Return means over windows, which are no larger than the map."""
    height, width = min(kernel[0], x.shape[2]), min(kernel[1], x.shape[3])
    return F.avg_pool2d(x, (height, width))


class Spatial(nn.Module):
    """The spatial module (SIM): a map gated by what one far smaller one says along width and then height."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.across, self.along = normed(width, width, WIDE), normed(width, width, TALL)
        self.inner = normed(width, width, 3)
        self.outer = normed(width, width, 3, stride)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the branch's outcome and the gated map, which the temporal branch is told."""
        coarse = self.along(F.relu(self.across(pooled(x, (_GATE, _GATE)))))
        gated = self.inner(x) * torch.sigmoid(x + F.interpolate(coarse, x.shape[2:]))
        return F.relu(self.outer(gated)), gated


class Difference(nn.Module):
    """How a frame differs from the next, seen along one direction, as an attention in (-½, ½) on every channel."""

    def __init__(self, width: int, narrow: int, kernel: tuple[int, int]):
        super().__init__()
        self.move = convolution(narrow, narrow, kernel, groups=narrow)
        self.coarse, self.fine = normed(narrow, narrow, kernel), normed(narrow, narrow, kernel)
        self.raise_ = normed(narrow, width, 1)
        self.window = (2, 1) if kernel == TALL else (1, 2)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        clips, moved = (value.unflatten(0, (-1, frames)) for value in (x, self.move(x)))
        steps = moved[:, 1:] - clips[:, :-1]  # (B, T - 1, C, H, W)
        steps = F.pad(steps, (0, 0, 0, 0, 0, 0, 0, 1)).flatten(0, 1)  # the last frame has no next one
        coarse = F.interpolate(self.coarse(pooled(steps, self.window)), steps.shape[2:])
        return torch.sigmoid(self.raise_((steps + coarse + self.fine(steps)) / 3)) - 0.5


class Temporal(nn.Module):
    """The temporal module (TIM): channels weighed by differences of neighbouring frames along height and along width."""

    def __init__(self, width: int):
        super().__init__()
        narrow = max(1, width // _REDUCTION)
        self.lower = normed(width, narrow, 1)
        self.tall, self.wide = Difference(width, narrow, TALL), Difference(width, narrow, WIDE)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        low = self.lower(x)
        return x + x * (self.tall(low, frames) + self.wide(low, frames)) / 2


class Supplement(nn.Module):
    """The information supplement module (ISM): spatial channels weighed by their neighbours' means."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.mix(x.mean((2, 3))[:, None])[:, 0]  # (B·T, C)
        return x * torch.sigmoid(weights)[:, :, None, None]


class Shift(nn.Module):
    """A learnt mix of each channel's previous, own and next frame, which begins as a shift of two eighths of the channels."""

    def __init__(self, width: int):
        super().__init__()
        weight = torch.zeros(width, 1, 3)
        fold = width // _FOLDS
        weight[:fold, 0, 2] = weight[fold : 2 * fold, 0, 0] = weight[2 * fold :, 0, 1] = 1
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        clips = F.pad(x.unflatten(0, (-1, frames)), (0, 0, 0, 0, 0, 0, 1, 1))  # (B, T + 2, C, H, W)
        shares = self.weight[:, 0].to(x.dtype)[:, :, None, None]  # (C, 3, 1, 1)
        return sum(shares[:, i] * clips[:, i : i + frames] for i in range(3)).flatten(0, 1)  # type: ignore[union-attr]


class StilBlock(nn.Module):
    """A bottleneck of two halves: traces through time, and the spatial branch that supplements them. timm's ResNet builds it."""

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        frames: int = 8,
        **_: Any,
    ):
        super().__init__()
        half, self.frames = planes // 2, frames
        self.trace_in, self.space_in = normed(inplanes, half, 1), normed(inplanes, half, 1)
        self.spatial, self.temporal = Spatial(half, 1), Temporal(half)
        self.supplement, self.shift = Supplement(), Shift(half)
        self.trace_out = normed(half, half, 3)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else nn.Identity()
        self.merge = normed(planes, planes * self.expansion, 1)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        trace, space = F.relu(self.trace_in(x)), F.relu(self.space_in(x))
        space, told = self.spatial(space)
        trace = self.shift(self.temporal(trace, self.frames) + self.supplement(told), self.frames)
        trace = F.relu(self.trace_out(trace))
        both = self.merge(torch.cat([self.pool(trace), self.pool(space)], dim=1))
        return F.relu(both + (x if self.downsample is None else self.downsample(x)))


# Published name of a part → ours, within a block.
_PARTS = {
    "conv1_a.": "trace_in.0.", "bn1_a.": "trace_in.1.", "conv1_b.": "space_in.0.", "bn1_b.": "space_in.1.",
    "k1.": "trace_out.", "conv3.": "merge.0.", "bn3.": "merge.1.",
    "scconv.f_w.1.": "spatial.across.0.", "scconv.f_w.2.": "spatial.across.1.", "scconv.f_h.": "spatial.along.",
    "scconv.k3.": "spatial.inner.", "scconv.k4.": "spatial.outer.",
    "tim.conv1.": "temporal.lower.0.", "tim.bn1.": "temporal.lower.1.",
    "tim.conv_ht.": "temporal.tall.move.", "tim.htie_conv1.": "temporal.tall.coarse.",
    "tim.htie_conv2.": "temporal.tall.fine.", "tim.ht_up_conv.": "temporal.tall.raise_.",
    "tim.conv_tw.": "temporal.wide.move.", "tim.vtie_conv1.": "temporal.wide.coarse.",
    "tim.vtie_conv2.": "temporal.wide.fine.", "tim.tw_up_conv.": "temporal.wide.raise_.",
    "shift.conv.": "shift.", "ism.conv.": "supplement.mix.",
}  # fmt: skip


def our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state of SCNet or STIL under our names of its blocks' parts."""
    renamed = {}
    for key, value in state.items():
        stage, block, part = key.partition(".")[0], *key.partition(".")[2].partition(".")[::2]
        if stage.startswith("layer"):
            begin = next((theirs for theirs in _PARTS if part.startswith(theirs)), "")
            key = f"{stage}.{block}.{_PARTS.get(begin, '')}{part.removeprefix(begin)}"
        renamed[key] = value
    return renamed
