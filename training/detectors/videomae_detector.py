"""VideoMAE: a ViT over tubes of two frames, all attending to all, that learnt by filling in what was masked of a video.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", NeurIPS 2022.
The encoder of that pre-training (Kinetics-400, no labels) is trained with all of its weights to tell real from fake by
cross-entropy: mean over tokens, LayerNorm, a linear layer. The use as a detector and the optimiser are DeepfakeBench's.

What differs from the paper: Adam at one rate for all, where its fine-tuning takes AdamW with `optimizer.layer_decay` 0.75 and
much augmentation. What DeepfakeBench does otherwise (`videomae_benchmark.yaml`): it keeps the norm behind which pre-training
put its decoder, so that tokens are normalised before the mean and after it (`backbone_config.last_norm`); weights of either
kind load. Its file asks for landmarks, which nothing there reads. Places and times are told by fixed sines: the weights serve
any size and any even number of frames.

Input 16 × 224 × 224. 86.2 M parameters, 180.3 G multiply-adds per clip; on one core of an AMD EPYC 0.14 clips/s with 1.2 GB,
and a training step of one clip takes 23 s and 2.4 GB.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import Field, model_validator
from torch import Tensor, nn

from training.batch import DataInfo
from training.detectors.base import DetectorCard
from training.detectors.registry import register_detector
from training.detectors.video_base import VideoTransformerDetector
from training.networks.video_transformers import Architecture, VideoShape, VideoTransformerConfig
from training.networks.weights import State

log = logging.getLogger("clipdeepfake")
_BASE = "MCG-NJU/videomae-base"
_LAST_NORM = ("backbone.layernorm.weight", "videomae.layernorm.weight")


class TubeShape(VideoShape):
    """The encoder's shape."""

    tubelet: int = Field(2, ge=1, le=4096, description="frames that one token is of")
    last_norm: bool = Field(False, description="normalise tokens before their mean too")


class VideoMaeConfig(VideoTransformerConfig):
    """VideoMAE's own keys."""

    pretrained: str | None = Field(_BASE, description="a name of Hugging Face's hub, a file or folder, or null")
    backbone_config: TubeShape = Field(default_factory=TubeShape)
    clip_size: int = Field(16, ge=1, le=4096, description="frames per clip")

    @model_validator(mode="after")
    def _tubes_fill_the_clip(self) -> VideoMaeConfig:
        frames = self.backbone_config.tubelet
        if self.clip_size % frames:
            raise ValueError(
                f"clip_size {self.clip_size} is no multiple of the {frames} frames of backbone_config.tubelet"
            )
        return self


@register_detector(VideoMaeConfig)
class VideoMae(VideoTransformerDetector):
    """Mean of the tokens → LayerNorm → linear."""

    config: VideoMaeConfig
    architecture = Architecture(
        "VideoMAE", "VideoMAEModel", "videomae",
        (r"^(classifier|fc_norm|decoder|encoder_to_decoder|layernorm)\.", r"^mask_token$"), _BASE,
        ((r"\.q_bias$", ".query.bias"), (r"\.v_bias$", ".value.bias")),
    )  # fmt: skip
    card = DetectorCard(
        "VideoMAE", "video",
        "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", 2022,
        "https://arxiv.org/abs/2203.12602", "outputs and losses of DeepfakeBench",
    )  # fmt: skip

    def __init__(self, config: VideoMaeConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.fc_norm = nn.LayerNorm(config.backbone_config.width)

    def own_settings(self, config: VideoMaeConfig) -> dict[str, Any]:
        shape = config.backbone_config
        return {
            "num_frames": config.clip_size,
            "tubelet_size": shape.tubelet,
            "use_mean_pooling": not shape.last_norm,  # the library's name for leaving the last norm out
        }

    def pooled(self, clip: Tensor) -> Tensor:
        return self.fc_norm(self.backbone(clip).last_hidden_state.mean(dim=1))

    def adapt_to(self, state: State) -> None:
        """Take or leave the last norm, as the state has it."""
        has = any(key in state for key in _LAST_NORM)
        if has == (self.backbone.layernorm is not None):
            return
        log.info(
            "these weights were trained %s a norm before the mean over tokens; so is this", "with" if has else "without"
        )
        shape = self.config.backbone_config
        self.backbone.layernorm = nn.LayerNorm(shape.width, eps=self.backbone.config.layer_norm_eps) if has else None
