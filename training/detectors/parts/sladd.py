"""SLADD's synthesiser: a network that chooses how a target is forged, and the forging itself, on the device.

Nothing is differentiated through a forgery: the network learns from how its choices fared (`Choices.log_prob`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config.schema import Config
from training.networks.xception_stages import FEATURES, build_xception, final_map

# What a region takes of the parts left eye, right eye, band of both eyes, nose, mouth (`sladd_recipe.STROKES`).
REGIONS = ((0,), (1,), (2,), (3,), (4,), (3, 0), (3, 1), (3, 2), (3, 4), (2, 3, 4))
PARTS = 5
ALPHA, POISSON, MIXUP, UNTOUCHED = range(4)
BLENDINGS = 4
ORIGINAL_FORGERY = 4  # the type of a fake that somebody else made
# Of a solver on each level of a pyramid of maps, and what it takes for nothing.
_ITERATIONS = 24
_NONE = 1e-20


@dataclass
class Choices:
    """What is done to each of B targets.

    Attributes:
        region: `(B,)` int64, of `REGIONS`. blending: `(B,)` int64, ALPHA to UNTOUCHED. ratio: `(B,)`, of the reference in MIXUP.
        log_prob: `(B,)`, of region, blending and ratio together; its gradient reaches the synthesiser.
        entropy: `(B,)` likewise.
    """

    region: Tensor
    blending: Tensor
    ratio: Tensor
    log_prob: Tensor
    entropy: Tensor


class Synthesizer(nn.Module):
    """Xception on target and reference together, with a head for each of region, blending and mixup's ratio."""

    def __init__(self, config: Config, pretrained: bool, dropout: float):
        super().__init__()
        six = config.backbone_config.model_copy(update={"inc": 6})
        self.trunk = build_xception(config.model_copy(update={"backbone_config": six}), pretrained, inc=6)
        self.dropout = nn.Dropout(dropout)
        self.region = nn.Linear(FEATURES, len(REGIONS))
        self.blending = nn.Linear(FEATURES, BLENDINGS)
        self.ratio = nn.Linear(FEATURES, 1)

    def forward(self, target: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits `(B, 10)`, `(B, 4)`, `(B, 1)` for normalised images `(B, 3, H, W)`."""
        pooled = final_map(self.trunk, torch.cat([target, reference], dim=1)).mean((2, 3))
        region, blending, ratio = (head(self.dropout(pooled)) for head in (self.region, self.blending, self.ratio))
        return region, blending, ratio


def choose(region: Tensor, blending: Tensor, ratio: Tensor, chance: Tensor) -> Choices:
    """Draw region and blending from logits `(B, K)` by uniform numbers `(B, 2)`; the ratio is σ of its logit.

    The ratio counts as if it were its own probability: what it adds to `log_prob` is log σ, as in the paper's code.
    """
    drawn = []
    log_prob = F.logsigmoid(ratio.float()[:, 0])
    share = log_prob.exp()
    entropy = -share * log_prob
    for logits, uniform in ((region, chance[:, :1]), (blending, chance[:, 1:])):
        logs = logits.float().log_softmax(dim=1)
        # Rounding may leave the whole sum below a uniform number.
        index = (logs.exp().cumsum(dim=1) <= uniform).sum(dim=1).clamp_max(logs.shape[1] - 1)
        drawn.append(index)
        log_prob = log_prob + logs.gather(1, index[:, None])[:, 0]
        entropy = entropy - (logs * logs.exp()).sum(dim=1)
    return Choices(drawn[0], drawn[1], share.detach(), log_prob, entropy)


def region_masks(parts: Tensor, region: Tensor) -> Tensor:
    """Return soft masks `(B, 1, H, W)` in [0, 1]: of the parts `(B, 5, H, W)` uint8 the largest that a region holds."""
    holds = torch.zeros(len(REGIONS), PARTS, device=parts.device)
    for row, chosen in enumerate(REGIONS):
        holds[row, list(chosen)] = 1
    return (parts.float() / 255 * holds[region][:, :, None, None]).amax(dim=1, keepdim=True)


def forge(target: Tensor, source: Tensor, alpha: Tensor, blending: Tensor, ratio: Tensor) -> Tensor:
    """Return targets `(B, 3, H, W)` with the source blended in under soft masks `(B, 1, H, W)`.

    ALPHA: M·S + (1 − M)·T; MIXUP: the same with ratio · M; POISSON: the source's gradients where M ≥ ½, with the target's values
    at the border; UNTOUCHED: T. Where M is 0 all of them are T.
    """
    share = torch.where(blending == MIXUP, ratio, 1.0) * (blending != UNTOUCHED)
    made = target + alpha * share[:, None, None, None] * (source - target)
    rows = (blending == POISSON).nonzero()[:, 0]
    if len(rows):
        made[rows] = seamless(target[rows], source[rows], alpha[rows] >= 0.5)
    return made


def seamless(target: Tensor, source: Tensor, inside: Tensor) -> Tensor:
    """Return the target, with the source's gradients inside a mask `(B, 1, H, W)` bool (Pérez et al., SIGGRAPH 2003).

    What that adds to the source is harmonic inside and the difference of the two pictures around.
    """
    return torch.where(inside, source + spread_inside(target - source, inside), target)


def spread_inside(known: Tensor, inside: Tensor) -> Tensor:
    """Return maps `(B, C, H, W)` whose values inside a mask `(B, 1, H, W)` bool are the mean of their four neighbours.

    Around the mask they are as given; beyond the picture's border values repeat. Each level of a pyramid starts from the
    coarser one's answer, so that few iterations reach the middle of large masks.
    """
    height, width = known.shape[-2:]
    outside = (~inside).float()
    if min(height, width) >= 4:
        weight = _halved(outside)
        coarse = _halved(known * outside) / weight.clamp_min(1e-6)
        guess = F.interpolate(
            spread_inside(coarse, weight == 0), size=(height, width), mode="bilinear", align_corners=False
        )
    else:
        guess = (known * outside).sum((2, 3), keepdim=True) / outside.sum((2, 3), keepdim=True).clamp_min(1)
    value = torch.where(inside, guess, known)
    # Conjugate gradients on what is missing inside, channel by channel.
    missing = torch.where(inside, _around(value) - value, 0.0)
    step, square = missing, missing.square().sum((2, 3), keepdim=True)
    for _ in range(_ITERATIONS):
        bent = torch.where(inside, step - _around(step), 0.0)
        length = square / (step * bent).sum((2, 3), keepdim=True).clamp_min(_NONE)
        value, missing = value + length * step, missing - length * bent
        before, square = square, missing.square().sum((2, 3), keepdim=True)
        step = missing + square / before.clamp_min(_NONE) * step
    return value


def _around(values: Tensor) -> Tensor:
    """Return the mean of every pixel's four neighbours."""
    padded = F.pad(values, (1, 1, 1, 1), mode="replicate")
    return (padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2] + padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1]) / 4


def _halved(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)


class RegionMap(nn.Module):
    """Where the middle flow's map `(B, 728, h, w)` sees a forgery: `(B, 1, h, w)` in [0, 1]."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map."""
        return self.pointwise(self.conv1(x)).float().sigmoid()
