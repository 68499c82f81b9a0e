"""The regional independence loss: every attention map keeps to one meaning, and no two to the same (the paper's eq. 3).

Each region j has a centre c_j, a running mean of what image i shows there, v_ij (a unit vector of non-textural features):

    c ← c + α · (mean over the batch of v − c)

    intra   mean of max(0, ‖v_ij − c_j‖ − m_in(y_i))                 a real image may be m_in(0) away, a fake m_in(1)
    inter   1/(M·α) · sum over pairs of max(0, m_out − ‖c_j − c_k‖)

`inter` moves features only through this step's share α of the centres, hence the division, which the authors' code has.
"""

import torch
from torch import Tensor

from training.ops.full_precision import full_precision


@full_precision
def moved_centers(centers: Tensor, vectors: Tensor, rate: float) -> Tensor:
    """Return the centres `(M, C)` after a batch of vectors `(B, M, C)`, with the vectors' gradient."""
    mean = vectors.float().sum(0) / max(1, len(vectors))
    return centers + rate * (mean - centers)


@full_precision
def intra_region(vectors: Tensor, centers: Tensor, label: Tensor, margins: list[float]) -> Tensor:
    """Return how far vectors `(B, M, C)` are from the centres beyond the margin of their label `(B,)`, as a mean."""
    distance = torch.linalg.vector_norm(vectors.float() - centers, dim=2)  # (B, M)
    beyond = (distance - distance.new_tensor(margins)[label][:, None]).relu()
    return beyond.sum() / max(1, beyond.numel())


@full_precision
def inter_region(centers: Tensor, margin: float, rate: float) -> Tensor:
    """Return how much closer than the margin pairs of centres `(M, C)` are: their sum, by M and the rate. 0 for one centre."""
    first, second = torch.triu_indices(len(centers), len(centers), offset=1, device=centers.device)
    distance = torch.linalg.vector_norm(centers[first] - centers[second], dim=1)
    return (margin - distance).relu().sum() / (len(centers) * rate)
