"""Means over the part of a batch whose label is known."""

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
