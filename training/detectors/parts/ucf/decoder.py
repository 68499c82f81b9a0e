"""A decoder that draws one image's content in the manner of a fingerprint (UCF: Yan et al., ICCV 2023, section 3.3)."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

_EPS = 1e-5


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Return content `(B, C, h, w)` with each channel's mean and deviation taken from `style` (Huang & Belongie, ICCV 2017)."""
    mean, deviation = _moments(content)
    wanted_mean, wanted_deviation = _moments(style)
    return (content - mean) / deviation * wanted_deviation + wanted_mean


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    flat = x.float().flatten(2)
    deviation = (flat.var(dim=2) + _EPS).sqrt()
    return flat.mean(dim=2)[..., None, None], deviation[..., None, None]


class ConditionalDecoder(nn.Module):
    """Fingerprint and content → image, in three steps of twice the size each.

    Both go through the same convolutions, and before every step the content takes over the fingerprint's statistics.
    """

    def __init__(self, channels: int = 512, steps: int = 3, dropout: float = 0.3):
        super().__init__()
        widths = [channels >> i for i in range(steps + 1)]
        self.steps = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(wide, narrow, 3, padding=1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(narrow, narrow, 3, padding=1),
                    nn.ReLU(inplace=True),
                )
                for wide, narrow in pairwise(widths)
            ]
        )
        self.dropout = nn.Dropout(dropout)
        self.paint = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, fingerprint: Tensor, content: Tensor, size: tuple[int, int]) -> Tensor:
        """Return images `(B, 3, *size)` in (−1, 1) of maps `(B, C, h, w)`."""
        last = len(self.steps) - 1
        for i, step in enumerate(self.steps):
            content = step(self.dropout(doubled(adain(content, fingerprint))))
            if i < last:
                fingerprint = step(self.dropout(doubled(fingerprint)))
        return F.interpolate(self.paint(content), size=size, mode="bilinear", align_corners=True).tanh()


def doubled(x: Tensor) -> Tensor:
    """Return x `(B, C, h, w)` at twice its height and width."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
