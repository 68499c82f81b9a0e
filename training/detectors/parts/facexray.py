"""The face X-ray and its loss (Li et al., "Face X-ray for More General Face Forgery Detection", CVPR 2020)."""

from torch import Tensor
from torch.nn import functional as F


def face_xray(alpha: Tensor) -> Tensor:
    """Return the X-ray B = 4·M·(1 − M) of soft blending masks M in [0, 1] (eq. 2): 1 where both images mix evenly."""
    return 4 * alpha * (1 - alpha)


def xray_of_mask(mask: Tensor, kernel: int = 15) -> Tensor:
    """Return the X-ray that a binary forgery mask `(B, 1, H, W)` implies: its edge, softened by `kernel` pixels (odd).

    The paper's masks are soft because blending is; a stored mask has lost that, and a triangular filter stands in.
    """
    half = kernel // 2
    soft = mask.float()
    for _ in range(2):
        soft = F.avg_pool2d(F.pad(soft, (half // 2,) * 4, mode="replicate"), half // 2 * 2 + 1, stride=1)
    return face_xray(soft.clamp(0, 1))


def xray_loss(logit: Tensor, xray: Tensor, each: bool = False) -> Tensor:
    """Return the mean cross-entropy of pixels between X-rays in [0, 1] and logits, both `(B, 1, H, W)` (eq. 4).

    Args:
        each: a mean per image, `(B,)`.
    """
    pixels = F.binary_cross_entropy_with_logits(logit.float(), xray.float(), reduction="none")
    return pixels.flatten(1).mean(1) if each else pixels.mean()
