"""Freq-Adapter: a Fourier and a wavelet branch, side by side, that give CLIP the frequencies its patches do not see.

CLIP's first layer averages a patch into one token, and what a blend or an upsampling leaves behind lies mostly above that.
Both branches look at the de-normalised image: the FFT branch through a learnable soft radial high-pass (global, exact in
frequency), the DWT branch through the detail sub-bands (local, multi-scale). Their maps on the patch grid are concatenated
and projected to frequency tokens, which join the tower as zero-initialised gated residuals: at step 0 it is plain CLIP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from training.config.schema import Section
from training.ops.full_precision import full_precision
from training.ops.wavelet import Wavelet2d

# A whole number is a block, one with a point a share of the depth: 0.5 is the middle of any tower.
Block = Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(ge=0, lt=1, strict=True)]


class FreqAdapterConfig(Section):
    """Keys of the Freq-Adapter."""

    enabled: bool = True
    branches: Annotated[list[Literal["fft", "dwt"]], Field(min_length=1)] = ["fft", "dwt"]
    wavelet: str = "db2"
    levels: int = Field(2, ge=1, le=3)
    channels: int = Field(48, ge=4, le=4096, description="width of the branches' encoders")
    inject: list[Block] | None = Field(
        None, description="blocks that take frequency tokens: numbers, or shares of the depth; null: first and middle"
    )


def squash(x: Tensor) -> Tensor:
    """Compress amplitudes, keeping sign and order: residuals of a smooth face are a thousand times smaller than edges."""
    return 20 * x / (1 + 10 * x.abs())


class SoftHighPass(nn.Module):
    """A radial high-pass in the Fourier plane whose cut-off and width are learned.

    Transfer function σ((r − r₀)/τ), r the frequency in cycles per pixel (0 … √½). No phase shift: it is real and even.
    """

    def __init__(self, cutoff: float = 0.15, width: float = 0.03):
        super().__init__()
        self.cutoff = nn.Parameter(torch.tensor(cutoff))
        self.log_width = nn.Parameter(torch.tensor(width).log())

    def transfer(self, height: int, width: int) -> Tensor:
        """Return the transfer function on the half plane of a real transform, `(H, W // 2 + 1)`."""
        vertical = torch.fft.fftfreq(height, device=self.cutoff.device)[:, None]
        horizontal = torch.fft.rfftfreq(width, device=self.cutoff.device)[None, :]
        radius = torch.sqrt(vertical**2 + horizontal**2)
        return torch.sigmoid((radius - self.cutoff) / self.log_width.exp())

    @full_precision  # cuFFT has no bfloat16, and half precision only for powers of two
    def forward(self, x: Tensor) -> Tensor:
        """Return the high frequencies of `(B, C, H, W)`, same shape, float32."""
        spectrum = torch.fft.rfft2(x.float()) * self.transfer(*x.shape[-2:])
        return torch.fft.irfft2(spectrum, s=x.shape[-2:])


class GridEncoder(nn.Module):
    """Strided convolutions and an average onto the patch grid.

    BatchNorm, not a per-image norm: how strong a residual is, compared with other images, is what a forgery changes.
    """

    def __init__(self, inputs: int, channels: int):
        super().__init__()
        layers: list[nn.Module] = []
        for width in (inputs, channels):
            layers += [
                nn.Conv2d(width, channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.GELU(),
            ]
        layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.GELU()]
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.adaptive_avg_pool2d(self.net(x), grid)


class FreqAdapter(nn.Module):
    """Image in [0, 1] → frequency tokens, and what each branch saw.

    Args:
        config: branches, wavelet, levels.
        width: D of the tower's tokens.
        depth: number of the tower's blocks.
    """

    def __init__(self, config: FreqAdapterConfig, width: int, depth: int):
        super().__init__()
        self.config = config
        parts = 0
        if "fft" in config.branches:
            self.high_pass = SoftHighPass()
            self.fft_encoder = GridEncoder(3, config.channels)
            parts += 1
        if "dwt" in config.branches:
            self.wavelet = Wavelet2d(config.wavelet)
            self.dwt_encoders = nn.ModuleList(GridEncoder(9, config.channels) for _ in range(config.levels))
            parts += config.levels
        self.project = nn.Sequential(
            nn.Conv2d(parts * config.channels, width, 1), nn.GELU(), nn.Conv2d(width, width, 1)
        )
        self.norm = nn.LayerNorm(width)
        self.blocks = chosen_blocks([0.0, 0.5] if config.inject is None else config.inject, depth)
        self.gates = nn.ParameterDict({str(block): nn.Parameter(torch.zeros(width)) for block in self.blocks})

    def forward(self, image: Tensor, grid: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return tokens `(B, N, D)` and the energies `fft_energy`, `dwt_energy` `(B, 1, h, w)` of the branches there are.

        Args:
            image: `(B, 3, H, W)` in [0, 1]. grid: (h, w), the patch grid, N = h·w.
        """
        maps, energies = [], {}
        if "fft" in self.config.branches:
            high = self.high_pass(image)
            maps.append(self.fft_encoder(squash(high), grid))
            energies["fft_energy"] = _energy(high, grid)
        if "dwt" in self.config.branches:
            _, details = self.wavelet(image.float(), self.config.levels)
            energies["dwt_energy"] = torch.zeros((), device=image.device)
            for encoder, bands in zip(self.dwt_encoders, details, strict=True):
                stacked = torch.cat(bands, dim=1)  # (B, 9, H / 2^l, W / 2^l)
                maps.append(encoder(squash(stacked), grid))
                energies["dwt_energy"] = energies["dwt_energy"] + _energy(stacked, grid)
        tokens = self.project(torch.cat(maps, dim=1)).flatten(2).transpose(1, 2)  # (B, N, D)
        return self.norm(tokens), energies

    def residuals(self, tokens: Tensor) -> dict[int, Tensor]:
        """Return what is added to the patch tokens before each chosen block; zero at the start of training."""
        return {block: tokens * self.gates[str(block)] for block in self.blocks}


def chosen_blocks(wanted: Sequence[int | float], depth: int) -> list[int]:
    """Return the numbers of blocks of a tower of that depth; shares fall on the block that begins at them or before."""
    from common.errors import ConfigError

    blocks = dict.fromkeys(int(block * depth) if isinstance(block, float) else block for block in wanted)
    wrong = [block for block in blocks if not 0 <= block < depth]
    if wrong:
        raise ConfigError(
            f"freq_adapter.inject: block {wrong[0]} is not among the tower's blocks 0 to {depth - 1}; "
            "shares of the depth such as 0.25 fit any tower"
        )
    return list(blocks)


def _energy(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the mean square over channels on the grid, `(B, 1, h, w)`, without gradient: it is for looking at."""
    return F.adaptive_avg_pool2d(x.detach().float().square().mean(dim=1, keepdim=True), grid)
