"""Pair-wise self-consistency: which patches of an image come from one source (Zhao et al., ICCV 2021, section 3.1)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PatchConsistency(nn.Module):
    """Compares every patch of a map with every other: ⟨θ(f_i), θ(f_j)⟩ / √C (eq. 1)."""

    def __init__(self, channels: int):
        super().__init__()
        self.embed = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the consistency volume, `(B, N, N)` for N = h · w patches, of a map `(B, C, h, w)`."""
        patches = self.embed(x).flatten(2).float()  # (B, C, N)
        # Sums over hundreds of channels: half precision would round what the sigmoid is about to tell apart.
        with torch.autocast(x.device.type, enabled=False):
            return patches.transpose(1, 2) @ patches / patches.shape[1] ** 0.5


def patch_masks(mask: Tensor, side: int) -> Tensor:
    """Return how much of each of side² patches was blended in, `(B, N)`, of masks `(B, 1, H, W)` in [0, 1].

    They come to the patches' size bilinearly, corner on corner.
    """
    return F.interpolate(mask.float(), (side, side), mode="bilinear", align_corners=True).flatten(1)


def true_consistency(patches: Tensor) -> Tensor:
    """Return the volume 1 − |m_i − m_j|, `(B, N, N)` in [0, 1], that patches' masks `(B, N)` ask for (eq. 2)."""
    return 1 - (patches[:, :, None] - patches[:, None]).abs()


def consistency_loss(logit: Tensor, patches: Tensor) -> Tensor:
    """Return every image's mean binary cross-entropy over pairs of patches, `(B,)`, of a volume of logits (eq. 3)."""
    target = true_consistency(patches)
    return F.binary_cross_entropy_with_logits(logit.float(), target, reduction="none").mean((1, 2))


def benchmark_consistency_loss(logit: Tensor, patches: Tensor) -> Tensor:
    """Return `consistency_loss` as DeepfakeBench has it, which differs in two ways.

    The patches at the left border are to agree with m_j instead of 1 − |m_i − m_j|. And it is the cross-entropy of rounded
    probabilities, with logarithms that end at −100: a pair judged so surely that 0 or 1 is left has no gradient any more.
    """
    target = true_consistency(patches)
    target[:, :: math.isqrt(patches.shape[1])] = patches[:, None]
    return F.binary_cross_entropy(logit.float().sigmoid(), target, reduction="none").mean((1, 2))
