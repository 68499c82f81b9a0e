"""Alignment and uniformity of features on the unit hypersphere (Wang & Isola, ICML 2020)."""

import torch
from torch import Tensor

from training.ops.full_precision import full_precision


@full_precision
def alignment(feat: Tensor, label: Tensor, alpha: float = 2.0) -> Tensor:
    """Return the mean of ‖x − y‖^α over all ordered pairs of different samples of one class (their eq. 4).

    The paper's positive pairs are two views of one image; here they are two samples with one label (arXiv 2508.06248).
    Zero, with zero gradient, when no class has two samples.

    Args:
        feat: unit vectors `(B, D)`. label: `(B,)`.
    """
    same = label[:, None] == label[None, :]
    same = same & ~torch.eye(len(label), dtype=torch.bool, device=label.device)
    pairs = same.sum()
    # ‖x − y‖² = 2 − 2 x·y; the clamp keeps the root's slope finite where two features coincide.
    squared = (2 - 2 * feat.float() @ feat.float().T).clamp_min(1e-12)
    return (squared ** (alpha / 2) * same).sum() / pairs.clamp_min(1)


@full_precision
def uniformity(feat: Tensor, t: float = 2.0) -> Tensor:
    """Return log of the mean of exp(−t‖x − y‖²) over all pairs of different samples (their eq. 5).

    0 when all features coincide, negative when they spread; 0 for a single sample.
    """
    size = len(feat)
    if size < 2:
        return feat.float().sum() * 0.0
    squared = 2 - 2 * feat.float() @ feat.float().T
    rows, columns = torch.triu_indices(size, size, offset=1, device=feat.device)
    return torch.logsumexp(-t * squared[rows, columns], dim=0) - torch.log(torch.tensor(float(len(rows))))
