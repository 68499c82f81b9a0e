"""What the high frequencies of a face draw (Chen et al., "Local Relation Learning for Face Forgery Detection", AAAI 2021,
section 3.2): the grey image's discrete cosine transform without its low frequencies, transformed back."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from training.ops.dct import dct_matrix
from training.ops.full_precision import full_precision

# Luma of RGB in 2^-15, as OpenCV has it: published weights have seen its whole grey levels, and these are the same.
_LUMA = (9798.0, 19235.0, 3735.0)
_SHIFT = 2.0**15
# Frequencies below this share of the way along both axes together are taken out (DeepfakeBench's figure).
CUT = 0.33


@full_precision
def high_frequency_image(image: Tensor, cut: float = CUT) -> Tensor:
    """Return what the high frequencies of RGB images `(B, 3, H, W)` in [0, 255] draw, `(B, 1, H, W)`.

    The frequency (u, v) is left out where u / H + v / W < cut. Grey levels 0 … 255 are scaled as an image to [−1, 1], so that
    nothing at all, which is level 0, is −1.
    """
    height, width = image.shape[-2:]
    grey = whole_grey(image.float())  # (B, H, W)
    rows, columns, kept = (x.to(image.device) for x in _transforms(height, width, cut))
    spectrum = (rows @ grey @ columns.T) * kept
    return (rows.T @ spectrum @ columns).unsqueeze(1) / 127.5 - 1


def whole_grey(image: Tensor) -> Tensor:
    """Return grey levels `(B, H, W)`, whole numbers, of RGB `(B, 3, H, W)` in [0, 255], brought to whole numbers first."""
    luma = image.new_tensor(_LUMA).view(3, 1, 1)
    # All products and sums are whole and below 2^24, so that float32 has them exactly.
    return ((image.round().clamp(0, 255) * luma).sum(dim=1) / _SHIFT + 0.5).floor()


@lru_cache(maxsize=8)
def _transforms(height: int, width: int, cut: float) -> tuple[Tensor, Tensor, Tensor]:
    # Made outside of any inference mode: what is kept must serve training, too.
    with torch.inference_mode(False):
        # Compared in whole steps of 1 / H, as the field's filter is: u · W / H + v < cut · W.
        u, v = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)
        kept = (u * (width / height) + v >= cut * width).float()
        return dct_matrix(height), dct_matrix(width), kept
