"""Consistency between representations of two views of one image (CORE: Ni et al., CVPRW 2022, eq. 3)."""

from torch import Tensor
from torch.nn import functional as F


def cosine_consistency(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of (1 − cos)² between the rows of two `(B, D)` feature matrices, in [0, 4]."""
    return (1 - F.cosine_similarity(first.float(), second.float(), dim=1, eps=1e-12)).square().mean()
