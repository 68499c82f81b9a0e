"""Means over the part of a batch whose label, or forgery mask, is known."""

import torch
from torch import Tensor
from torch.nn import functional as F

UNKNOWN = -1


def known_cross_entropy(logits: Tensor, label: Tensor, count: float | Tensor | None = None) -> Tensor:
    """Return the cross-entropy over samples with a known label, as a mean.

    Args:
        logits: `(B, C)`. label: `(B,)`, −1 unknown.
        count: what to divide the sum by: this share's part of the number of known samples over the whole global batch.
            None: the known ones of this batch. Without any known sample the loss is 0 with zero gradient.
    """
    total = F.cross_entropy(logits.float(), label, ignore_index=UNKNOWN, reduction="sum")
    if count is None:
        count = (label != UNKNOWN).sum()
    return total / torch.as_tensor(count, device=logits.device).clamp_min(1e-6)


def known_masks(mask: Tensor, label: Tensor) -> Tensor:
    """Return `(B,)` bool: whose forgery mask `(B, …, H, W)` is known.

    Nothing of a real image is forged, whatever was recorded. A fake whose mask is empty has one that nobody recorded
    (FaceShifter's, frames behind the end of a mask video), and must count in no loss.
    """
    return (mask.flatten(1) > 0).any(dim=1) | (label == 0)


def known_mean(each: Tensor, known: Tensor, count: float | Tensor | None = None) -> Tensor:
    """Return the mean of losses `(B,)` over samples that are known, `(B,)` bool.

    Args:
        count: as in `known_cross_entropy`.
    """
    total = torch.where(known, each, 0.0).sum()
    return total / torch.as_tensor(known.sum() if count is None else count, device=each.device).clamp_min(1e-6)
