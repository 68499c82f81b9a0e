"""Two classes, real and fake: the cross-entropy of their logits and the probability of a fake."""

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of logits `(B, C)`.

    With label smoothing ε the target is (1 − ε) on the label plus ε/C everywhere (Szegedy et al., CVPR 2016).
    """
    return F.cross_entropy(logits.float(), label, label_smoothing=smoothing)


def fake_probability(logits: Tensor) -> Tensor:
    """Return the probability `(B,)` of a fake, in single precision, from logits `(B, 2)` whose class 1 is fake."""
    return logits.float().softmax(dim=1)[:, 1]
