"""Additive-margin softmax (Wang et al., "Additive Margin Softmax for Face Verification", SPL 2018)."""

from torch import Tensor
from torch.nn import functional as F


def am_softmax(
    score: Tensor, label: Tensor, margin: float = 0.45, scale: float = 30.0, reduction: str = "mean"
) -> Tensor:
    """Return the cross-entropy of scaled scores `(B, K)` after the true class's score is lowered by the margin.

    `label` `(B,)` int64. `reduction` is PyTorch's: their mean, or `none`. The scores are cosines in the paper; a linear layer's
    outputs do as well, without its geometry.
    """
    lowered = score.float() - margin * F.one_hot(label, score.shape[1])
    return F.cross_entropy(scale * lowered, label, reduction=reduction)
