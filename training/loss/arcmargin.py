"""The additive angular margin of ArcFace (Deng et al., CVPR 2019, eq. 3), as a classifier on the hypersphere."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.ops.full_precision import full_precision


def arc_margin(cosine: Tensor, label: Tensor, margin: float) -> Tensor:
    """Return cosines `(B, C)` in which the label's angle θ has become θ + margin.

    Beyond θ = π − margin, where cos(θ + m) would rise again, the linear continuation cos θ − sin(π − m)·m keeps the value
    falling. Gradients are finite everywhere, also at cos θ = ±1.
    """
    # At exactly ±1 the square root's slope is infinite; this distance keeps it finite and is below float32's resolution of θ.
    own = cosine.gather(1, label[:, None]).clamp(-1 + 1e-7, 1 - 1e-7)  # (B, 1)
    sine = torch.sqrt(1 - own**2)
    moved = own * math.cos(margin) - sine * math.sin(margin)
    far = own <= math.cos(math.pi - margin)
    moved = torch.where(far, own - math.sin(math.pi - margin) * margin, moved)
    return cosine.scatter(1, label[:, None], moved)


class ArcMargin(nn.Module):
    """Cosine classifier with scale s, and margin m in training.

    Args:
        dim: of the features. classes: how many. scale: s, the inverse temperature. margin: m, in radians.
    """

    def __init__(self, dim: int, classes: int = 2, scale: float = 30.0, margin: float = 0.3):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.xavier_uniform_(self.weight)
        self.scale, self.margin = scale, margin

    @full_precision
    def forward(self, feat: Tensor, label: Tensor | None = None) -> Tensor:
        """Return logits `(B, C)`: s·cos θ, with the margin on the label's class where one is given (training)."""
        cosine = F.linear(F.normalize(feat.float(), dim=1), F.normalize(self.weight.float(), dim=1))
        if label is not None:
            cosine = arc_margin(cosine, label, self.margin)
        return self.scale * cosine
