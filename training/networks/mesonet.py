"""MesoNet (Afchar et al., WIFS 2018): two shallow networks for the scale between pixels and faces.

No library has them. Both end in the same two layers over what is left at 1/32 of the input's side.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from common.errors import ConfigError
from training.config.schema import BackboneConfig, Config, Probability


class MesoConfig(BackboneConfig):
    """What the trunk is asked for."""

    num_classes: Literal[2] = 2  # type: ignore[assignment]
    dropout: Probability = Field(0.5, description="before each of the two last layers")
    norms: Literal["own", "shared"] = Field(
        "own", description="own: a BatchNorm per convolution | shared: one for every two, as in DeepfakeBench"
    )


class MesoInceptionConfig(MesoConfig):
    """What the trunk with inception modules is asked for."""

    branch_activation: Literal["none", "relu"] = Field(
        "none", description="after each convolution of a branch: none, as published weights have it | relu, the paper's"
    )


class ConvNorm(nn.Module):
    """Convolution, ReLU, BatchNorm, max-pooling, in the paper's order. The norm may belong to another layer too."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: nn.BatchNorm2d, pool: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm, self.pool = norm, nn.MaxPool2d(pool)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, outputs, H/pool, W/pool)`."""
        return self.pool(self.norm(self.conv(x).relu()))


class InceptionModule(nn.Module):
    """Four parallel branches: 1×1; and 1×1 followed by 3×3 dilated by 1, 2 and 3. Concatenated, normed, halved."""

    def __init__(self, inputs: int, outputs: tuple[int, int, int, int], relu: bool):
        super().__init__()
        self.direct = nn.Conv2d(inputs, outputs[0], 1, bias=False)
        self.reduce = nn.ModuleList(nn.Conv2d(inputs, width, 1, bias=False) for width in outputs[1:])
        self.dilated = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=rate, dilation=rate, bias=False)
            for rate, width in enumerate(outputs[1:], start=1)
        )
        self.activation = nn.ReLU() if relu else nn.Identity()
        self.norm, self.pool = nn.BatchNorm2d(sum(outputs)), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, sum of outputs, H/2, W/2)`."""
        branches = [self.activation(self.direct(x))]
        for reduce, dilated in zip(self.reduce, self.dilated):
            branches.append(self.activation(dilated(self.activation(reduce(x)))))
        return self.pool(self.norm(torch.cat(branches, dim=1)))


def meso4_trunk(config: MesoConfig) -> nn.Sequential:
    """Return Meso4's four convolutions: `(B, inc, H, W)` → `(B, 16·H/32·W/32)`."""
    first, second, third, fourth = _norms((8, 8, 16, 16), config)
    return nn.Sequential(
        ConvNorm(config.inc, 8, 3, first, 2),
        ConvNorm(8, 8, 5, second, 2),
        ConvNorm(8, 16, 5, third, 2),
        ConvNorm(16, 16, 5, fourth, 4),
        nn.Flatten(),
    )


def meso_inception_trunk(config: MesoInceptionConfig) -> nn.Sequential:
    """Return MesoInception4's two inception modules and two convolutions, of the same output size."""
    relu = config.branch_activation == "relu"
    first, second = _norms((16, 16), config)
    return nn.Sequential(
        InceptionModule(config.inc, (1, 4, 4, 2), relu),
        InceptionModule(11, (2, 4, 4, 2), relu),
        ConvNorm(12, 16, 5, first, 2),
        ConvNorm(16, 16, 5, second, 4),
        nn.Flatten(),
    )


class MesoHead(nn.Sequential):
    """The two last layers: `(B, 16·(side/32)²)` → 16 → real and fake."""

    def __init__(self, config: Config):
        side, dropout = config.resolution // 32, config.backbone_config.dropout
        if config.resolution % 32:
            raise ConfigError(f"{config.model_name} pools by 32: set resolution to a multiple, not {config.resolution}")
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(16 * side * side, 16),
            nn.LeakyReLU(0.1),
            nn.Dropout(dropout),
            nn.Linear(16, 2),
        )


def _norms(widths: tuple[int, ...], config: MesoConfig) -> list[nn.BatchNorm2d]:
    """Return a BatchNorm for every width, or the same one for every two."""
    norms = [nn.BatchNorm2d(width) for width in widths]
    if config.norms == "shared":
        norms[1::2] = norms[::2]
    return norms
