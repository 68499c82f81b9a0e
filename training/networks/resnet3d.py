"""3-D ResNet-50 as video networks of faces take it: I3D (Carreira & Zisserman, CVPR 2017) in the form of SlowFast's authors.

Every kernel is temporal or spatial: of a block's three convolutions the first spans frames, where it spans anything, and the
second spans pixels; the stem alone does both. Which kernels span how many frames, whether kernels span pixels at all and how
many frames are pooled is data (`Shape3d`), so that I3D, AltFreezing and FTCN are one implementation. No library that the
project stands on has this network: torchvision's video ResNets have basic blocks or other stems, timm has none.

Weights: I3D 8×8 R50, trained on Kinetics-400, under the names of SlowFast's or PyTorchVideo's model zoo.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import WeightsError
from training.config.schema import BackboneConfig, Config
from training.networks.conversion.resnet3d_keys import OTHER_PARTS, trunk_keys
from training.networks.recompute import recomputed
from training.networks.weights import PRETRAINED_DIR, State, assign_state, find_weights, read_state

Resnet3dName = Literal["resnet3d50", "resnet3d_tiny"]
PUBLISHED = "I3D_8x8_R50.pth"
_EXPANSION = 4


@dataclass(frozen=True)
class Shape3d:
    """What a 3-D ResNet is made of.

    Attributes:
        depths: blocks of each stage. width: channels of the stem; stage i gives 4 · width · 2^i.
        stem: frames that the stem's kernel spans.
        temporal: for each stage, frames that the first kernels of its blocks span, block after block and over again.
        spatial: whether kernels span pixels. Without, all are 1×1 in space, and where a convolution would skip pixels, the
            largest of them is taken behind it.
        pool: so many frames become one after the first stage.
    """

    depths: tuple[int, ...]
    width: int
    stem: int = 5
    temporal: tuple[tuple[int, ...], ...] = ((3,), (3, 1), (3, 1), (1, 3))
    spatial: bool = True
    pool: int = 2

    @property
    def channels(self) -> int:
        """Channels of the last stage."""
        return _EXPANSION * self.width * 2 ** (len(self.depths) - 1)

    def stages(self, count: int) -> Shape3d:
        """Return the shape without what follows the first `count` stages."""
        return replace(self, depths=self.depths[:count], temporal=self.temporal[:count])

    def in_time_alone(self) -> Shape3d:
        """Return the shape with kernels that span no pixels, and without pooled frames."""
        return replace(self, spatial=False, pool=1)


SHAPES: dict[str, Shape3d] = {
    "resnet3d50": Shape3d((3, 4, 6, 3), 64),
    "resnet3d_tiny": Shape3d((1, 1, 2, 2), 8),  # for trials: every kind of kernel, few channels
}


class Resnet3dBackbone(BackboneConfig):
    """The field's section; there is one variant of the trunk."""

    num_classes: Literal[1] = Field(1, description="one sigmoid")


class Resnet3dConfig(Config):
    """Keys that every detector on a 3-D ResNet shares."""

    pretrained: str | None = Field(PUBLISHED, description="a local file, or null")
    backbone_name: Resnet3dName = Field("resnet3d50", description="the trunk's shape")
    backbone_config: Resnet3dBackbone = Field(default_factory=Resnet3dBackbone)
    resolution: int = Field(224, ge=32, le=8192)
    video_mode: bool = True
    clip_size: int | None = Field(16, ge=2, le=4096, description="frames per clip")
    grad_checkpointing: bool = Field(False, description="recompute the blocks in backward: less memory, more time")

    @field_validator("backbone_name", mode="before")
    @classmethod
    def _unnamed(cls, value: Any) -> Any:
        """Take the field's null for the one trunk that its code has."""
        return "resnet3d50" if value is None else value

    @model_validator(mode="after")
    def _reads_clips(self) -> Resnet3dConfig:
        asked = self.backbone_config
        if (asked.inc, asked.dropout) != (3, 0) or (asked.mode or "original") != "original":
            raise ValueError("backbone_config: this detector takes mode original, inc 3 and dropout 0; see `dropout`")
        if not self.video_mode or self.clip_size is None:
            raise ValueError("video_mode: this detector reads clips; leave it true and set clip_size")
        return self


class ConvNorm(nn.Module):
    """A convolution over `frames` × `side` × `side`, its BatchNorm, and where pixels are skipped after it, their largest."""

    def __init__(self, inputs: int, outputs: int, frames: int, side: int = 1, stride: int = 1, spatial: bool = True):
        super().__init__()
        side, step = (side, stride) if spatial else (1, 1)
        kernel, padding = (frames, side, side), (frames // 2, side // 2, side // 2)
        self.conv = nn.Conv3d(inputs, outputs, kernel, (1, step, step), padding, bias=False)
        self.norm = nn.BatchNorm3d(outputs)
        self.skip = stride if not spatial else 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x if self.skip == 1 else F.max_pool3d(x, (1, self.skip, self.skip))


class Block3d(nn.Module):
    """Bottleneck: temporal, spatial and pointwise kernels beside a shortcut."""

    def __init__(self, inputs: int, inner: int, frames: int, stride: int, spatial: bool):
        super().__init__()
        outputs = _EXPANSION * inner
        self.temporal = ConvNorm(inputs, inner, frames)
        self.spatial = ConvNorm(inner, inner, 1, 3, stride, spatial)
        self.last = ConvNorm(inner, outputs, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, 1, stride, spatial)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.temporal(x), inplace=True)
        inner = F.relu(self.spatial(inner), inplace=True)
        return F.relu(self.last(inner) + self.shortcut(x), inplace=True)


class ResNet3d(nn.Module):
    """Clips `(B, T, 3, H, W)` → maps `(B, C, T / pool, h, w)`, not negative; h and w are H and W over 4 · 2^(stages − 1).

    Attributes:
        shape: what it is made of.
    """

    def __init__(self, shape: Shape3d, grad_checkpointing: bool = False):
        super().__init__()
        self.shape, self.grad_checkpointing = shape, grad_checkpointing
        self.stem = ConvNorm(3, shape.width, shape.stem, 7, 2, shape.spatial)
        inputs, self.names = shape.width, []
        for number, (depth, frames) in enumerate(zip(shape.depths, shape.temporal, strict=True)):
            inner, blocks = shape.width * 2**number, []
            for i in range(depth):
                stride = 2 if number and not i else 1
                blocks.append(Block3d(inputs, inner, frames[i % len(frames)], stride, shape.spatial))
                inputs = _EXPANSION * inner
            self.names.append(f"stage{number + 2}")  # counted as in the literature: the stem is the first
            self.add_module(self.names[-1], nn.Sequential(*blocks))
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clip: Tensor) -> Tensor:
        run = recomputed if self.grad_checkpointing and self.training else _kept
        x = F.relu(run(self.stem, clip.transpose(1, 2)), inplace=True)  # (B, C, T, H/2, W/2)
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for number, name in enumerate(self.names):
            for block in self.get_submodule(name).children():
                x = run(block, x)
            if number == 0 and self.shape.pool > 1:
                x = F.max_pool3d(x, (self.shape.pool, 1, 1))
        return x

    def kernels(self) -> dict[str, list[Tensor]]:
        """Return the kernels of the blocks that span frames alone, `temporal`, and those that span pixels alone, `spatial`."""
        found: dict[str, list[Tensor]] = {"temporal": [], "spatial": []}
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                frames, *side = layer.kernel_size
                if (frames > 1) != (max(side) > 1):
                    found["temporal" if frames > 1 else "spatial"].append(layer.weight)
        return found


def _kept(block: nn.Module, x: Tensor) -> Tensor:
    return block(x)


def build_resnet3d(config: Resnet3dConfig, pretrained: bool, shape: Shape3d | None = None) -> ResNet3d:
    """Return the trunk that a configuration names, or one of another shape, with its weights where asked.

    Raises:
        WeightsError: there is no such file, or it is of another network.
    """
    trunk = ResNet3d(shape or SHAPES[config.backbone_name], config.grad_checkpointing)
    if pretrained and config.pretrained is not None:
        load_published(trunk, config.pretrained)
    return trunk


def local_resnet3d(asked: str) -> Path | None:
    """Return the file on this machine that `pretrained` means, also under PyTorchVideo's suffix; None when there is none."""
    return find_weights(asked) or find_weights(Path(asked).with_suffix(".pyth"))


def load_published(trunk: ResNet3d, file: str) -> None:
    """Load a 3-D ResNet into a trunk, all of it or nothing.

    A trunk whose kernels do not span pixels takes a kernel's sum over them: what the kernel answers where a picture is even.

    Raises:
        WeightsError: there is no such file, or it is of another network.
    """
    found = local_resnet3d(file)
    if found is None:
        raise WeightsError(
            f"pretrained: there is no file {file}, nor {PRETRAINED_DIR / Path(file).name}; put the 3-D ResNet-50 of "
            "SlowFast's or PyTorchVideo's model zoo (I3D 8x8 R50) there, or write pretrained: null to begin at random"
        )
    later = tuple(rf"^stage{number}\." for number in range(2 + len(trunk.names), 6))
    convert = trunk_keys if trunk.shape.spatial else lambda state: _without_pixels(trunk, trunk_keys(state))
    assign_state(trunk, read_state(found), str(found), may_ignore=(*OTHER_PARTS, *later), convert=convert)


def _without_pixels(trunk: ResNet3d, state: State) -> State:
    own = trunk.state_dict()
    return {
        key: value.sum((3, 4), keepdim=True) if value.ndim == 5 and _smaller(own.get(key), value) else value
        for key, value in state.items()
    }


def _smaller(own: torch.Tensor | None, value: Tensor) -> bool:
    return own is not None and own.shape[:3] == value.shape[:3] and own.shape[3:] == (1, 1)
