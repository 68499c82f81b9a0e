"""Losses on the output capsules of a capsule network."""

import torch
from torch import Tensor
from torch.nn import functional as F


def capsule_margin(
    length: Tensor, label: Tensor, present: float = 0.9, absent: float = 0.1, absent_weight: float = 0.5
) -> Tensor:
    """Return the margin loss of Sabour et al., "Dynamic Routing Between Capsules" (NeurIPS 2017), eq. 4, as a mean.

    Args:
        length: `(B, C)` norms of the class capsules, in [0, 1). label: `(B,)`.
        present: the capsule of the label's class should be at least this long. absent: the others at most this.
        absent_weight: weight of the classes that are absent.
    """
    length = length.float()
    target = F.one_hot(label, length.shape[1]).to(length)
    too_short = (present - length).clamp_min(0) ** 2
    too_long = (length - absent).clamp_min(0) ** 2
    return (target * too_short + absent_weight * (1 - target) * too_long).sum(dim=1).mean()


def averaged_cross_entropy(classes: Tensor, label: Tensor) -> Tensor:
    """Return the cross-entropy of Capsule-Forensics: of the mean over capsule dimensions of their softmax.

    Args:
        classes: `(B, D, C)`, each dimension of the output capsules turned into probabilities. label: `(B,)`.
    """
    return F.nll_loss(classes.float().mean(dim=1).clamp_min(torch.finfo(torch.float32).tiny).log(), label)


def summed_cross_entropy(classes: Tensor, label: Tensor) -> Tensor:
    """Return what DeepfakeBench minimises: a cross-entropy per dimension, which takes the softmax a second time, summed."""
    count, dimensions, number = classes.shape
    per_row = F.cross_entropy(
        classes.float().reshape(count * dimensions, number), label.repeat_interleave(dimensions), reduction="sum"
    )
    return per_row / count
