"""Agreement between the frequency embeddings of an image and of a degraded view of it."""

from torch import Tensor
from torch.nn import functional as F

from training.ops.full_precision import full_precision


@full_precision
def frequency_consistency(embedding: Tensor, other: Tensor) -> Tensor:
    """Return the mean of 1 − cosine similarity between the rows of two `(B, D)` matrices.

    In [0, 2]; 0 where both point the same way.
    """
    return (1 - F.cosine_similarity(embedding.float(), other.float(), dim=1)).mean()
