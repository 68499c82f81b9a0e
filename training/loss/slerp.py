"""Spherical interpolation between features of one class (arXiv 2503.19683), an augmentation that stays on the sphere."""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.ops.full_precision import full_precision


@full_precision
def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Return the points at share t of the great-circle arcs from a to b (Shoemake 1985).

    Args:
        a, b: unit vectors `(B, D)`. t: `(B,)` or `(B, 1)` in [0, 1].

    Nearly equal vectors, where sin Ω vanishes, are interpolated linearly. Nearly opposite ones have no single shortest arc:
    the one through a fixed direction orthogonal to a is taken. The result has unit norm in every case.
    """
    a, b = a.float(), b.float()
    t = t.float().reshape(-1, 1)
    cosine = (a * b).sum(dim=1, keepdim=True).clamp(-1, 1)
    opposite = cosine < -1 + 1e-4
    # Half-way detour: from a to an orthogonal unit vector and on to −a is one half circle.
    axis = F.one_hot(a.abs().argmin(dim=1), a.shape[1]).to(a.dtype)
    orthogonal = F.normalize(axis - (axis * a).sum(dim=1, keepdim=True) * a, dim=1)
    angle = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6))
    sine = torch.sin(angle)
    near = sine < 1e-3
    safe = torch.where(near, torch.ones_like(sine), sine)
    weight_a = torch.where(near, 1 - t, torch.sin((1 - t) * angle) / safe)
    weight_b = torch.where(near, t, torch.sin(t * angle) / safe)
    arc = weight_a * a + weight_b * b
    half_circle = torch.cos(t * torch.pi) * a + torch.sin(t * torch.pi) * orthogonal
    return F.normalize(torch.where(opposite, half_circle, arc), dim=1)


def slerp_within_class(feat: Tensor, label: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Return one new feature per sample, between it and a random sample of the same class, and the labels.

    Args:
        feat: unit vectors `(B, D)`. label: `(B,)`. generator: of the partners and shares; None: torch's own.
    """
    scores = torch.rand(len(label), len(label), generator=generator, device=feat.device)
    allowed = label[:, None] == label[None, :]
    partner = scores.masked_fill(~allowed, -1).argmax(dim=1)  # a sample alone in its class meets itself
    t = torch.rand(len(label), generator=generator, device=feat.device)
    return slerp(feat, feat[partner], t), label
