"""Supervision of an attention map that should mark forged places (Dang et al., "On the Detection of Digital Face
Manipulation", CVPR 2020, section 3.3)."""

import torch
from torch import Tensor
from torch.nn import functional as F

# What the strongest place of a fake's map should reach when nobody says where the forgery is (the paper's figure).
_PEAK = 0.75


def supervised_map_loss(attention: Tensor, mask: Tensor) -> Tensor:
    """Return, per sample `(B,)`, the mean absolute difference of maps `(B, 1, h, w)` and masks `(B, 1, H, W)` in [0, 1].

    The mask is brought to the map's size by area, so that a place half forged wants one half.
    """
    height, width = attention.shape[-2:]
    wanted = F.adaptive_avg_pool2d(mask.float(), (height, width))
    return (attention.float() - wanted).abs().mean((1, 2, 3))


def weak_map_loss(attention: Tensor, label: Tensor) -> Tensor:
    """Return, per sample `(B,)`, what can be asked without a mask: real maps 0 everywhere, fake maps a peak of 0.75."""
    attention = attention.float()
    flat = attention.abs().mean((1, 2, 3))
    peak = (attention.amax((1, 2, 3)) - _PEAK).abs()
    return torch.where(label == 0, flat, peak)
