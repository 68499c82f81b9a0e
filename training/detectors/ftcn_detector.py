"""FTCN: convolutions in time alone, and a transformer over the moments of a clip.

Zheng et al., "Exploring Temporal Coherence for More General Video Face Forgery Detection", ICCV 2021. A network that may look
across pixels finds blended borders and learns nothing of time. Here every kernel of a 3-D ResNet-50 spans one pixel (its strides
become max-pooling), no frames are pooled and the last stage is left out; the mean over places is one token per frame, and one
transformer block with a class token reads them. One sigmoid, binary cross-entropy.

What differs from the paper: it begins with Kinetics' weights, whose kernels are summed over pixels (`pretrained: null` begins
at random, as the paper does); its 100 epochs of 32 clips a batch, SGD from 0.01 to 0.1 in ten of them and back along a
cosine, are its code's, which also blackens parts of clips. What DeepfakeBench does otherwise (`ftcn_benchmark.yaml`): clips
of 16 frames, Adam, and kernels that lose their pixels begin at random. Weights of either load.

Input 32×224×224. 14.8 M parameters, 112.8 G multiply-adds per clip; on one core of an AMD EPYC 0.08 clips/s with 1.7 GB, and a
training step of one clip takes 35 s and 5.4 GB (47 s and 3.1 GB with `grad_checkpointing`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator
from torch import Tensor, nn

from common.errors import WeightsError
from training.detectors.base import DetectorCard
from training.detectors.parts.ftcn import POSITIONS, TemporalTransformer, transformer_keys
from training.detectors.registry import register_detector
from training.detectors.resnet3d_base import OneSigmoid
from training.networks.conversion.resnet3d_keys import trunk_keys
from training.networks.resnet3d import SHAPES, Resnet3dConfig, build_resnet3d
from training.networks.weights import State

_STAGES = 3


class FtcnConfig(Resnet3dConfig):
    """The trunk's keys and the transformer's."""

    depth: int = Field(1, ge=1, le=64, description="blocks of the transformer")
    heads: int = Field(16, ge=1, le=1024, description="heads of its attention")
    hidden: int = Field(2048, ge=1, le=65536, description="width of its MLPs")
    dropout: float = Field(0.1, ge=0, lt=1, description="in the transformer")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> FtcnConfig:
        width = SHAPES[self.backbone_name].stages(_STAGES).channels
        if width % self.heads:
            raise ValueError(f"heads {self.heads} do not divide the {width} channels of {self.backbone_name}")
        return self


@register_detector(FtcnConfig)
class FtcnDetector(OneSigmoid):
    """Temporal convolutions → transformer over time → one sigmoid."""

    card = DetectorCard(
        title="FTCN",
        kind="video",
        paper="Exploring Temporal Coherence for More General Video Face Forgery Detection",
        year=2021,
        url="https://arxiv.org/abs/2108.06693",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )

    config: FtcnConfig

    def __init__(self, config: FtcnConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        shape = SHAPES[config.backbone_name].stages(_STAGES).in_time_alone()
        self.trunk = build_resnet3d(config, pretrained, shape)
        moments = config.clip_size or 1
        self.transformer = TemporalTransformer(
            shape.channels, moments, config.depth, config.heads, config.hidden, config.dropout
        )
        self.head = nn.Linear(shape.channels, 1)

    def features(self, clip: Tensor) -> Tensor:
        return self.trunk(clip).mean((3, 4), keepdim=True)  # (B, C, T, 1, 1)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(self.transformer(feat.flatten(2).transpose(1, 2)))

    def convert_keys(self, state: State) -> State:
        return transformer_keys(trunk_keys(state, "trunk."))

    def adapt_to(self, state: State) -> None:
        own = self.transformer.positions
        for key in POSITIONS:
            theirs = state.get(key, state.get(f"resnet.{key}", own))
            if theirs.ndim == 3 and theirs.shape[2] == own.shape[2] and theirs.shape[1] != own.shape[1]:
                there, here = theirs.shape[1] - 1, own.shape[1] - 1
                raise WeightsError(
                    f"the weights are of clips of {there} frames, and clip_size is {here}; set clip_size={there}"
                )
