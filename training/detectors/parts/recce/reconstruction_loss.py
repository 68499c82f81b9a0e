"""Losses of a decoder that shall know real faces only (RECCE: Cao et al., CVPR 2022, equations 1 to 3)."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F


def real_reconstruction(image: Tensor, rebuilt: Tensor, label: Tensor, count: float | Tensor | None = None) -> Tensor:
    """Return the mean absolute difference over real images; 0 with zero gradient when there is none.

    Args:
        image, rebuilt: `(B, 3, H, W)`. label: `(B,)`, 0 real.
        count: what the sum over real images is divided by; None: how many there are in this batch.
    """
    each = (image.float() - rebuilt.float()).abs().flatten(1).mean(dim=1)  # (B,)
    real = (label == 0).to(each.dtype)
    total = (each * real).sum()
    return total / torch.as_tensor(real.sum() if count is None else count, device=each.device).clamp_min(1e-6)


def real_cohesion(embeddings: Iterable[Tensor], label: Tensor) -> Tensor:
    """Return the metric-learning loss, summed over embeddings `(B, D)` of several depths.

        1 + mean d over pairs of real images − mean d over real with fake ones,  d = (1 − cos) / 2

    Real images shall be near each other and far from fakes; nothing is asked of fakes among themselves. The 1, which the authors'
    code adds, keeps every part in [0, 2]. A mean over no pair is 0; a batch without pairs gives 0 with zero gradient.
    """
    real = label == 0
    pairs = real[:, None] & real & ~torch.eye(len(label), dtype=torch.bool, device=label.device)
    mixed = real[:, None] & ~real
    parts = []
    for embedding in embeddings:
        unit = F.normalize(embedding.float(), dim=1)
        distance = (1 - unit @ unit.T) / 2
        parts.append(_mean(distance, pairs) - _mean(distance, mixed) + (pairs.any() | mixed.any()))
    return torch.stack(parts).sum()


def _mean(value: Tensor, where: Tensor) -> Tensor:
    return (value * where).sum() / where.sum().clamp_min(1)
