"""Contrastive regularisation between the real and the fake half of a batch (UCF: Yan et al., ICCV 2023, section 3.4)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def shuffle_within(group: Tensor) -> Tensor:
    """Return a random order `(B,)` that puts in every place a row of the same group.

    Args:
        group: `(B,)` integers. Randomness is torch's own, which training seeds at every step.
    """
    places = group.argsort(stable=True)
    mixed = (group + torch.rand(group.shape, dtype=torch.float64, device=group.device)).argsort()
    order = torch.empty_like(places)
    order[places] = mixed
    return order


def triplet_hinge(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Return the mean of max(0, ‖a − p‖ − ‖a − n‖ + margin) over rows `(B, D)`."""
    near = F.pairwise_distance(anchor.float(), positive.float())
    far = F.pairwise_distance(anchor.float(), negative.float())
    return (near - far + margin).clamp_min(0).mean()


def paired_contrast(feature: Tensor, group: Tensor, margin: float) -> Tensor:
    """Return the sum of the hinges of the real and of the fake half of role-major features `(B, D)`.

    Each row shall be nearer to another of its group (a random one, itself among them) than to a random one of the other half.
    """
    real, fake = feature.chunk(2)
    real_peer, fake_peer = feature[shuffle_within(group)].chunk(2)
    return triplet_hinge(real, real_peer, fake_peer, margin) + triplet_hinge(fake, fake_peer, real_peer, margin)
