"""Parts of local relation learning (Chen et al., "Local Relation Learning for Face Forgery Detection", AAAI 2021): attention
between colour and frequency, how alike the patches of a face are, and where it was changed."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Channels from the features down to the mask's logit.
_WIDTHS = (256, 256, 128, 64)


class StreamAttention(nn.Module):
    """RGB-frequency attention: each place of either stream is weighed by what both streams show there (section 3.3)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, colour: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor]:
        """Return both maps `(B, C, h, w)`, each times its attention `(B, 1, h, w)`."""
        first, second = self.weigh(torch.cat((colour, frequency), dim=1)).split(1, dim=1)
        return colour * first, frequency * second


class PatchSimilarity(nn.Module):
    """Multi-scale patch similarity: the cosine of every two patches of a map that holds several depths (section 3.4)."""

    others: Tensor

    def __init__(self, grid: int, patch: int):
        """Compare `grid` × `grid` patches of `patch` × `patch` places."""
        super().__init__()
        self.patch = patch
        count = grid**2
        # Where, in the flat matrix, two different patches are compared; each with itself tells nothing.
        # Without its first cell, the matrix laid out in rows of one more has its diagonal in the last column.
        others = torch.arange(1, count * count).view(count - 1, count + 1)[:, :-1].flatten()
        self.register_buffer("others", others, persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pattern `(B, K · (K − 1))`, which is all similarities but the diagonal, and all of them `(B, K, K)`.

        They are cosines brought to [0, 1]; patches count row by row.
        """
        full = features.to(torch.promote_types(features.dtype, torch.float32))
        patches = F.unfold(full, self.patch, stride=self.patch).transpose(1, 2)  # (B, K, C · patch²)
        direction = F.normalize(patches, dim=2)
        similarity = (direction @ direction.transpose(1, 2) + 1) / 2
        return similarity.flatten(1)[:, self.others], similarity


class MaskDecoder(nn.Module):
    """From the features to one logit per pixel: four times twice as large, and the rest by interpolation."""

    def __init__(self, channels: int):
        super().__init__()
        widths = (channels, *_WIDTHS)
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.refine = nn.ModuleList(nn.Conv2d(b, b, 3, padding=1) for b in _WIDTHS)
        self.logit = nn.Conv2d(_WIDTHS[-1], 1, 1, bias=False)
        # A map's mean is taken out right after, and what these add with it.
        for layer in (*self.widen, *self.refine):
            layer.bias.requires_grad_(False)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Return logits `(B, 1, *size)` of features `(B, C, h, w)`."""
        x = features
        for widen, refine in zip(self.widen, self.refine, strict=True):
            x = F.instance_norm(widen(F.interpolate(x, scale_factor=2.0))).relu()
            x = F.instance_norm(refine(x)).relu()
        return self.logit(F.interpolate(x, size=size, mode="bilinear", align_corners=True))


def gathered(low: Tensor, middle: Tensor, high: Tensor) -> Tensor:
    """Return maps of three depths side by side `(B, C₁ + C₂ + C₃, h, w)`, each at the places of the last."""
    size = high.shape[-2:]
    return torch.cat((F.interpolate(low, size=size), F.interpolate(middle, size=size), high), dim=1)


def mask_loss(logit: Tensor, mask: Tensor) -> Tensor:
    """Return, per sample `(B,)`, the mean binary cross-entropy of logits and masks, both `(B, 1, H, W)`."""
    return F.binary_cross_entropy_with_logits(logit.float(), mask.float(), reduction="none").mean((1, 2, 3))


def similarity_loss(similarity: Tensor, mask: Tensor) -> Tensor:
    """Return, per sample `(B,)`, the mean squared distance of similarities `(B, K, K)` to those of the mask `(B, 1, H, W)`.

    Two patches should be as alike as they are forged to the same share: 1 − |r₁ − r₂|.
    """
    grid = round(similarity.shape[1] ** 0.5)
    share = F.adaptive_avg_pool2d(mask.float(), grid).flatten(1)  # (B, K)
    wanted = 1 - (share[:, :, None] - share[:, None, :]).abs()
    return (similarity.float() - wanted).square().mean((1, 2))
