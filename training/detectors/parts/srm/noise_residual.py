"""High-frequency noise for forgery detection: SRM filters, and the attention that joins a noise stream to an RGB stream.

The modules are those of Luo et al., "Generalizing Face Forgery Detection with High-frequency Features", CVPR 2021, section 3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.ops.srm_filters import srm_filters

# What the residuals are cut off at; larger ones are edges of the scene, not noise.
_LIMIT = 3.0


class NoiseImage(nn.Module):
    """RGB image → three noise maps, each filter summed over the colours."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", srm_filters()[:, None].repeat(1, 3, 1, 1))  # (3, 3, 5, 5)

    def forward(self, image: Tensor) -> Tensor:
        """Return `(B, 3, H, W)` in [−3, 3]."""
        return F.conv2d(image, self.kernel, padding=2).clamp(-_LIMIT, _LIMIT)


class NoiseFeatures(nn.Module):
    """The filters on each channel of a feature map, then a learned mixture of what they leave (multi-scale branch)."""

    kernel: Tensor

    def __init__(self, channels: int):
        super().__init__()
        # Grouped convolution: consecutive outputs belong to one input. Published weights hold each filter in a run.
        self.register_buffer("kernel", srm_filters().repeat_interleave(channels, 0)[:, None])  # (3·C, 1, 5, 5)
        mixture = nn.Conv2d(3 * channels, channels, 1, bias=False)
        nn.init.kaiming_normal_(mixture.weight, a=1)
        self.out_conv = nn.Sequential(mixture, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.channels = channels

    def forward(self, features: Tensor) -> Tensor:
        """Return a map of the input's shape `(B, C, H, W)`."""
        residual = F.conv2d(features, self.kernel, padding=2, groups=self.channels)
        return self.out_conv(residual.clamp(-_LIMIT, _LIMIT))


class SpatialGate(nn.Module):
    """Where to look, from the mean and the maximum over channels (CBAM, Woo et al. 2018)."""

    def __init__(self, kernel: int = 7):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return weights `(B, 1, H, W)` in (0, 1)."""
        return self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)).sigmoid()


class ChannelGate(nn.Module):
    """Which channels count, from their means and maxima over space through one shared bottleneck (CBAM)."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.expand = nn.Conv2d(channels // reduction, channels, 1, bias=False)
        for layer in (self.squeeze, self.expand):
            nn.init.xavier_normal_(layer.weight, gain=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return weights `(B, C, 1, 1)` in (0, 1)."""
        summaries = (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
        return sum(self.expand(self.squeeze(s).relu()) for s in summaries).sigmoid()


class ResidualGuidedAttention(nn.Module):
    """Noise maps tell the low-level RGB features where to look (residual-guided spatial attention)."""

    def __init__(self) -> None:
        super().__init__()
        self.srm = NoiseImage()
        widths = (3, 32, 64)
        layers: list[nn.Module] = []
        # Strides and missing padding follow Xception's stem, whose map this one weighs.
        for before, after, stride in zip(widths, widths[1:], (2, 1), strict=False):
            layers += [nn.Conv2d(before, after, 3, stride, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.conv = nn.Sequential(*layers)
        self.pa = SpatialGate()
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=1)

    def forward(self, noise: Tensor) -> Tensor:
        """Return weights `(B, 1, h, w)` of the stem's map for noise maps `(B, 3, H, W)`."""
        return self.pa(self.conv(self.srm(noise)))


class CrossModalityAttention(nn.Module):
    """Two streams look at each other: every place of one reads from the places of the other that match it.

    The affinity of all pairs of places is one matrix; a learned linear map over the places and a softmax turn it, and its
    transpose, into the weights of either direction. What was read is added with a learned factor that begins at 0.
    """

    def __init__(self, channels: int, places: int, reduction: int = 8):
        """`places` is the number of positions h·w of the maps: the learned map is tied to it."""
        super().__init__()
        inner = channels // reduction
        self.key_conv1, self.key_conv2 = nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, inner, 1)
        self.key_conv_share = nn.Conv2d(inner, inner, 1)
        self.linear1, self.linear2 = nn.Linear(places, places), nn.Linear(places, places)
        self.value_conv1, self.value_conv2 = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.gamma1, self.gamma2 = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(layer.weight, gain=0.02)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return both maps `(B, C, h, w)`, each enriched by the other."""
        keys_x = self.key_conv_share(self.key_conv1(x)).flatten(2)  # (B, c, N)
        keys_y = self.key_conv_share(self.key_conv2(y)).flatten(2)
        affinity = keys_x.transpose(1, 2) @ keys_y  # (B, N of x, N of y)
        x_reads = self.linear1(affinity).softmax(dim=-1)
        y_reads = self.linear2(affinity.transpose(1, 2)).softmax(dim=-1)
        from_y = (self.value_conv2(y).flatten(2) @ x_reads.transpose(1, 2)).view_as(x)
        from_x = (self.value_conv1(x).flatten(2) @ y_reads.transpose(1, 2)).view_as(y)
        return x + self.gamma1 * from_y, y + self.gamma2 * from_x


class StreamFusion(nn.Module):
    """Both streams' last maps into one, its channels weighed."""

    def __init__(self, channels: int):
        super().__init__()
        self.convblk = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.ca = ChannelGate(channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return `(B, C, h, w)` of two maps of that shape."""
        fused = self.convblk(torch.cat([x, y], dim=1))
        return fused * self.ca(fused)
