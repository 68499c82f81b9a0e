"""X-CLIP: CLIP's ViT-B/32 on every frame, whose frames send each other one message token a block.

Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition", ECCV 2022. Of the published network the
vision model alone, as in DeepfakeBench: CLS of every frame, mean over frames, LayerNorm, a linear layer, all trained by
cross-entropy; neither text nor the transformer that integrates frames. (DeepfakeBench cites another paper of the same name, Ma
et al., but takes these weights.)

Messages pass between 8 successive frames, `backbone_config.message_frames`, as the published weights have learnt: a clip of 32
is four such groups, which meet in the mean. What differs from the paper: that, where its models for longer clips exchange
between all frames (name such weights and set the key); Adam at one rate for all, where it takes AdamW at 8e-6; inputs in
[-1, 1] instead of CLIP's own statistics. What differs from DeepfakeBench: what has no effect on any answer is frozen (the first
block's messages are alike in all frames, so that nobody chooses among them); its file names no weights that exist.

Input 32 × 224 × 224. 122.9 M parameters, 143.2 G multiply-adds per clip; on one core of an AMD EPYC 0.17 clips/s with 1.4 GB,
and a training step of one clip takes 17 s and 2.9 GB.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, model_validator
from torch import Tensor, nn

from training.batch import DataInfo
from training.detectors.base import DetectorCard
from training.detectors.registry import register_detector
from training.detectors.video_base import VideoTransformerDetector
from training.networks.video_transformers import Architecture, VideoShape, VideoTransformerConfig

_PATCH32 = "microsoft/xclip-base-patch32"
# What the softmax cancels: biases of keys; and to whom the first messages listen, which are all alike.
_WITHOUT_EFFECT = re.compile(r"(k_proj\.bias|layers\.0\.message_attn\.[qk]_proj\.\w+)$")


class MessageShape(VideoShape):
    """The vision model's shape."""

    patch: int = Field(32, ge=1, le=4096, description="side of a patch, in pixels")
    message_frames: int = Field(8, ge=1, le=4096, description="successive frames that send each other messages")


class XclipConfig(VideoTransformerConfig):
    """X-CLIP's own keys."""

    pretrained: str | None = Field(_PATCH32, description="a name of Hugging Face's hub, a file or folder, or null")
    backbone_config: MessageShape = Field(default_factory=MessageShape)
    clip_size: int = Field(32, ge=1, le=4096, description="frames per clip")

    @model_validator(mode="after")
    def _groups_fill_the_clip(self) -> XclipConfig:
        frames = self.backbone_config.message_frames
        if self.clip_size % frames:
            raise ValueError(
                f"clip_size {self.clip_size} is no multiple of the {frames} frames of backbone_config.message_frames"
            )
        return self


@register_detector(XclipConfig)
class Xclip(VideoTransformerDetector):
    """CLS of every frame → mean → LayerNorm → linear."""

    config: XclipConfig
    architecture = Architecture(
        "XCLIPVision", "XCLIPVisionModel", "vision_model",
        (r"^(text_model|mit|prompts_generator|visual_projection|text_projection|prompts_visual_layernorm)\.",
         r"^(logit_scale|prompts_visual_projection)$"), _PATCH32,
    )  # fmt: skip
    card = DetectorCard(
        "X-CLIP", "video", "Expanding Language-Image Pretrained Models for General Video Recognition", 2022,
        "https://arxiv.org/abs/2208.02816", "outputs and losses of DeepfakeBench",
    )  # fmt: skip

    def __init__(self, config: XclipConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(not _WITHOUT_EFFECT.search(name))
        self.fc_norm = nn.LayerNorm(config.backbone_config.width)

    def own_settings(self, config: XclipConfig) -> dict[str, Any]:
        return {"num_frames": config.backbone_config.message_frames}

    def pooled(self, clip: Tensor) -> Tensor:
        frames = self.backbone(clip.flatten(0, 1)).pooler_output  # (B·T, D)
        return self.fc_norm(frames.unflatten(0, clip.shape[:2]).mean(dim=1))
