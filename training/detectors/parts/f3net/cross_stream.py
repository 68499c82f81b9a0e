"""Cross-attention between two streams of one image (F³-Net's MixBlock, Qian et al., ECCV 2020, section 3.3)."""

import math

from torch import Tensor, nn, zeros


class StreamReader(nn.Module):
    """What one stream takes over from the other: values read by attention, normalised, weighed by a factor that begins at 0."""

    def __init__(self, channels: int):
        super().__init__()
        self.value = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.gamma = nn.Parameter(zeros(1))

    def forward(self, x: Tensor, other: Tensor, attention: Tensor) -> Tensor:
        """Return x plus what each of its places reads in `other`; `attention` is `(B, N, N)`, its rows sum to 1."""
        read = self.value(other).flatten(2) @ attention.transpose(1, 2)  # (B, C, N)
        return x + self.gamma * self.norm(read.view_as(x))


class MixBlock(nn.Module):
    """One affinity of all pairs of places, computed from both streams, serves both directions.

    The paper describes the block by a figure; projections to an eighth of the channels are ours.
    """

    def __init__(self, channels: int, reduction: int = 8):
        super().__init__()
        self.queries = nn.ModuleList([nn.Conv2d(channels, channels // reduction, 1) for _ in range(2)])
        self.readers = nn.ModuleList([StreamReader(channels) for _ in range(2)])

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams `(B, C, h, w)`, each with what it learnt from the other."""
        a, b = (query(x).flatten(2) for query, x in zip(self.queries, (first, second), strict=True))  # (B, C/8, N)
        affinity = a.transpose(1, 2) @ b / math.sqrt(a.shape[1])  # (B, N, N)
        return (
            self.readers[0](first, second, affinity.softmax(dim=2)),
            self.readers[1](second, first, affinity.transpose(1, 2).softmax(dim=2)),
        )
