"""The two-dimensional discrete wavelet transform as matrices: on the GPU, differentiable, equal to PyWavelets'."""

from __future__ import annotations

import pywt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import ConfigError
from training.ops.band_matrix import band_matrix
from training.ops.full_precision import full_precision

Details = tuple[Tensor, Tensor, Tensor]


class Wavelet2d(nn.Module):
    """Multi-level transform of `(B, C, H, W)` with any discrete wavelet of PyWavelets, symmetric extension.

    `forward(x, levels)` equals `pywt.wavedec2(x, name, level=levels, mode="symmetric")`, coarsest details first;
    `inverse` undoes it (Mallat 1989).

    Raises:
        ConfigError: PyWavelets has no discrete wavelet of that name.
    """

    rec_lo: Tensor
    rec_hi: Tensor

    def __init__(self, name: str = "db2"):
        super().__init__()
        if name not in pywt.wavelist(kind="discrete"):
            raise ConfigError(
                f"wavelet `{name}` is unknown; PyWavelets has among others haar, db2, sym4, coif1, bior2.2 "
                "(pywt.wavelist(kind='discrete') lists them)"
            )
        wavelet = pywt.Wavelet(name)
        self.length = wavelet.dec_len
        # A matrix of taps computes a correlation; analysis filters are therefore kept reversed.
        self.analysis = tuple(tuple(reversed(taps)) for taps in (wavelet.dec_lo, wavelet.dec_hi))
        self.register_buffer("rec_lo", torch.tensor(wavelet.rec_lo, dtype=torch.float64), persistent=False)
        self.register_buffer("rec_hi", torch.tensor(wavelet.rec_hi, dtype=torch.float64), persistent=False)

    @full_precision
    def forward(self, x: Tensor, levels: int = 1) -> tuple[Tensor, list[Details]]:
        """Return the approximation and per level, coarsest first, the (horizontal, vertical, diagonal) details."""
        details: list[Details] = []
        for _ in range(levels):
            low, high = self._split(x, dim=-2)
            x, vertical = self._split(low, dim=-1)
            horizontal, diagonal = self._split(high, dim=-1)
            details.append((horizontal, vertical, diagonal))
        return x, details[::-1]

    @full_precision
    def inverse(self, approximation: Tensor, details: list[Details], size: tuple[int, int]) -> Tensor:
        """Return the image `(B, C, *size)` whose transform is given."""
        x = approximation
        for horizontal, vertical, diagonal in details:
            # An odd side gains one sample on the way up; the next level's details say how many there should be.
            x = x[..., : horizontal.shape[-2], : horizontal.shape[-1]]
            low = self._merge(x, vertical, dim=-1)
            high = self._merge(horizontal, diagonal, dim=-1)
            x = self._merge(low, high, dim=-2)
        return x[..., : size[0], : size[1]]

    def _split(self, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        size = x.shape[dim]
        count = (size + self.length - 1) // 2
        low, high = (band_matrix(taps, size, 2 - self.length, 2, count, "symmetric") for taps in self.analysis)
        both = torch.cat([low, high]).to(x)  # (2 · count, size)
        parts = both @ x if dim == -2 else x @ both.T
        first, second = parts.chunk(2, dim=dim)
        return first, second

    def _merge(self, low: Tensor, high: Tensor, dim: int) -> Tensor:
        batch, channels = low.shape[:2]
        total: Tensor | float = 0.0
        for part, taps in ((low, self.rec_lo), (high, self.rec_hi)):
            kernel, stride = self._along(taps.to(part.dtype), dim)
            total = total + F.conv_transpose2d(
                part.reshape(batch * channels, 1, *part.shape[2:]), kernel, stride=stride
            )
        assert isinstance(total, Tensor)
        merged = total.unflatten(0, (batch, channels)).squeeze(2)
        return merged.narrow(dim, self.length - 2, merged.shape[dim] - 2 * (self.length - 2))

    @staticmethod
    def _along(taps: Tensor, dim: int) -> tuple[Tensor, tuple[int, int]]:
        return (taps.view(1, 1, -1, 1), (2, 1)) if dim == -2 else (taps.view(1, 1, 1, -1), (1, 2))
