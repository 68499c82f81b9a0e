"""How like one another patches should be: those of one face, and within a fake those of the same origin, more than others."""

import torch
from torch import Tensor

from training.loss.masked import known_mean


def wanted_consistency(forged: Tensor, label: Tensor, real: Tensor, fake: Tensor, cross: Tensor) -> Tensor:
    """Return the consistency `(B, N, N)` that pairs of patches should have.

    Args:
        forged: `(B, N)` bool, which patches of a fake are taken for forged; those of a real image do not count.
        label: `(B,)`, 0 real, 1 fake.
        real, fake, cross: scalars, of two genuine patches, of two forged ones, of one of each; 1 of a real image's patch and
            itself.
    """
    first, second = forged[:, :, None], forged[:, None, :]
    of_fake = torch.where(first & second, fake, torch.where(first ^ second, cross, real))
    same = torch.eye(forged.shape[1], dtype=torch.bool, device=forged.device)
    of_real = torch.where(same, torch.ones_like(real), real)
    return torch.where((label == 0)[:, None, None], of_real, of_fake)


def patch_consistency(
    found: Tensor, wanted: Tensor, label: Tensor, real: Tensor | None = None, fake: Tensor | None = None
) -> Tensor:
    """Return the mean over real images plus the mean over fakes of |found − wanted|, summed over pairs and divided by N² − N.

    Args:
        found, wanted: `(B, N, N)`.
        label: `(B,)`, 0 real, 1 fake.
        real, fake: what to divide the sums over either by: this share's part of their number in the whole global batch.
            None: their number here.
    """
    patches = found.shape[1]
    each = (found - wanted).abs().sum(dim=(1, 2)) / (patches * (patches - 1))  # (B,)
    return known_mean(each, label == 0, real) + known_mean(each, label == 1, fake)
