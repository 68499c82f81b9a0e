"""RECCE's parts around Xception (Cao et al., "End-to-End Reconstruction-Classification Learning", CVPR 2022, section 3).

A decoder rebuilds the face from half-way features; it learns real faces only, so that its maps and its failures tell of
forgery. A graph over scales takes up the maps, an attention the failures.
"""

from itertools import pairwise

import torch
from timm.models.xception import Block, SeparableConv2d
from torch import Tensor, nn
from torch.nn import functional as F


class Decoder(nn.Module):
    """Features → face: three steps up, each to twice the size, with residual blocks after the first two."""

    def __init__(self, channels: int = 728, widths: tuple[int, int, int] = (256, 128, 64)):
        super().__init__()
        inputs = (channels, *widths)
        self.up = nn.ModuleList([self._up(a, b) for a, b in pairwise(inputs)])
        self.refine = nn.ModuleList([Block(width, width, reps=3) for width in widths[:2]])
        self.paint = nn.Conv2d(widths[-1], 3, 1, bias=False)

    @staticmethod
    def _up(channels: int, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.UpsamplingNearest2d(scale_factor=2),
            SeparableConv2d(channels, width, 3, 1, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the face `(B, 3, 8h, 8w)` in (−1, 1), and maps `(B, 256, 2h, 2w)` and `(B, 128, 4h, 4w)` on the way there."""
        coarse = self.refine[0](self.up[0](features))
        fine = self.refine[1](self.up[1](coarse))
        return self.paint(self.up[2](fine)).tanh(), coarse, fine


class FinerScale(nn.Module):
    """What every place of a map learns from the `ratio`² places of a finer one that it covers."""

    def __init__(self, channels: int, finer: int, width: int, ratio: int):
        super().__init__()
        self.ratio = ratio
        self.gate = nn.Conv2d(channels, width, 1, bias=False)
        self.embed = nn.Sequential(
            nn.Linear(finer, width, bias=False), nn.ReLU(inplace=True), nn.Linear(width, width, bias=False)
        )
        self.weigh = nn.Linear(2 * width, 1, bias=False)

    def forward(self, x: Tensor, place: Tensor, finer: Tensor) -> Tensor:
        """Return `(B, D, h, w)`.

        Args:
            x: the map `(B, C, h, w)`. place: its embedding `(B, D, h, w)`.
            finer: a map `(B, F, ratio · h, ratio · w)`.
        """
        covered = F.pixel_unshuffle(finer, self.ratio).unflatten(1, (-1, self.ratio**2))  # (B, F, r², h, w)
        neighbours = self.embed(covered.permute(0, 3, 4, 2, 1))  # (B, h, w, r², D)
        about_place = place.permute(0, 2, 3, 1).unsqueeze(3).expand_as(neighbours)
        weight = self.weigh(torch.cat([about_place, neighbours], dim=-1)).relu().softmax(dim=3)
        taken = (neighbours * weight).sum(dim=3).permute(0, 3, 1, 2)
        return taken * (1 - self.gate(x).sigmoid())


class MultiScaleGraph(nn.Module):
    """Takes what the decoder's maps know up into the encoder's: a bipartite graph between each place and those under it."""

    def __init__(
        self, channels: int = 728, finer: tuple[int, int] = (256, 128), width: int = 256, dropout: float = 0.2
    ):
        super().__init__()
        self.place = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.ReLU(inplace=True), nn.Conv2d(width, width, 1, bias=False)
        )
        self.scales = nn.ModuleList([FinerScale(channels, c, width, 2 ** (i + 1)) for i, c in enumerate(finer)])
        self.out = nn.Sequential(
            nn.Conv2d((1 + len(finer)) * width, channels, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return what is to be added to the map x `(B, C, h, w)`, from maps of twice and four times its size."""
        place = self.place(x)
        taken = [scale(x, place, finer) for scale, finer in zip(self.scales, (coarse, fine), strict=True)]
        return self.out(torch.cat([*taken, place], dim=1).sigmoid())


class ResidualAttention(nn.Module):
    """Looks where the face was rebuilt badly."""

    def __init__(self, channels: int = 728, dropout: float = 0.2):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(3, 1, 1, bias=False),
            nn.Sigmoid(),
        )
        self.transform = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, image: Tensor, rebuilt: Tensor) -> Tensor:
        """Return a map like x `(B, C, h, w)`; image and rebuilt are `(B, 3, H, W)`."""
        failure = resized((image - rebuilt).abs(), x)
        return self.gate(failure) * self.transform(x) + self.dropout(x)


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Return x `(B, C, H, W)` at the height and width of `like`, corners on corners."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)
