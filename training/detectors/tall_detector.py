"""TALL: a clip laid out in one picture, which an image classifier reads as it stands.

Xu et al., "TALL: Thumbnail Layout for Deepfake Video Detection", ICCV 2023. Four successive frames lose the same block each
(training/dataset/recipes/tall_recipe.py), are halved and laid out in two rows. A Swin-B from ImageNet-21K with windows of 14
patches, so that they reach from frame to frame, reads the thumbnail; each patch is told by a learnt embedding which frame it is
of. Cross-entropy; AdamW (1.5e-5, cosine after ten epochs' rise), 60 epochs, eight clips a video.

What differs from the paper's published code: frames of 224 pixels are halved here, where it reads them with 112; clips are
mirrored, not also cropped at random; no label smoothing (0.1); batches of 32. What DeepfakeBench does otherwise
(`tall_benchmark.yaml`): Adam at 2e-5, its usual augmentation, a block of half the size in training and in tests, no ImageNet
weights; its training cannot be started, for nothing there knows its data set. Of nine frames and more it takes single
pixels where here means are taken.

Input 4×224×224. 86.9 M parameters, 16.3 G multiply-adds per clip. On one CPU core a clip a second, and 3.6 s for a
training step of one clip; the process peaks at 1.2 and 2.7 GB (weights and AdamW's moments are most: 2.5 GB and 4.6 s with
grad_checkpointing).
"""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from training.config.schema import Config, Positive, Probability
from training.detectors.base import ClassificationDetector, DetectorCard
from training.detectors.parts.tall import FrameSwin, begin_with, timm_names
from training.detectors.registry import register_detector
from training.networks.weights import State, rename

Stages = Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=4, max_length=4)]
_TRUNK = r"^(?:model\.)?(patch_embed|layers|norm)\."


class TallConfig(Config):
    """TALL's own keys: the layout, and Swin's shape by the names of its own code."""

    pretrained: str | None = Field(
        "swin_base_patch4_window7_224.ms_in22k", description="a tag of timm, a local file, or null"
    )
    resolution: int = Field(224, ge=8, le=8192, description="side of a frame, and of the thumbnail")
    video_mode: bool = True
    clip_size: int | None = Field(4, ge=1, le=1024, description="frames of a thumbnail")
    thumbnail_rows: int = Field(2, ge=1, le=1024, description="rows of a thumbnail")
    ape: bool = Field(True, description="tell patches which frame they are of")
    patch_size: int = Field(4, ge=1, le=1024)
    embed_dim: int = Field(128, ge=8, le=8192)
    depths: Stages = [2, 2, 18, 2]
    num_heads: Stages = [4, 8, 16, 32]
    window_size: Stages = Field([14, 14, 14, 7], description="patches along a window's side, by stage")
    mlp_ratio: Positive = 4.0
    drop_rate: float = Field(0.0, ge=0, lt=1)
    drop_path_rate: Probability = Field(0.1, description="stochastic depth, growing linearly to this in the last block")
    num_classes: Literal[2] = 2
    grad_checkpointing: bool = Field(False, description="recompute the blocks in backward: less memory, more time")

    @model_validator(mode="after")
    def _fits_together(self) -> "TallConfig":
        if not self.video_mode or self.clip_size is None:
            raise ValueError("video_mode: this detector reads clips; leave it true and set clip_size")
        columns, left = divmod(self.clip_size, self.thumbnail_rows)
        if left:
            raise ValueError(
                f"clip_size {self.clip_size} does not fill {self.thumbnail_rows} rows; set clip_size or thumbnail_rows so that "
                "one divides the other (4 frames, 2 rows)"
            )
        unit = self.patch_size * math.lcm(self.thumbnail_rows, columns)
        if self.resolution % unit:
            near = max(1, round(self.resolution / unit)) * unit
            raise ValueError(f"resolution {self.resolution}: patches would lie across frames; use {near}")
        if any(self.embed_dim * 2**stage % heads for stage, heads in enumerate(self.num_heads)):
            raise ValueError(
                f"num_heads {self.num_heads} do not divide the widths that embed_dim {self.embed_dim} means"
            )
        return self


@register_detector(TallConfig)
class TallDetector(ClassificationDetector):
    """Thumbnail → Swin → class."""

    card = DetectorCard(
        title="TALL",
        kind="video",
        paper="TALL: Thumbnail Layout for Deepfake Video Detection",
        year=2023,
        url="https://arxiv.org/abs/2307.07494",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )
    # Tables that the code of published checkpoints computes.
    unused_keys = (r"\.attn_mask$", r"\.relative_position_index$")

    config: TallConfig

    def __init__(self, config: TallConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        assert config.clip_size is not None  # the configuration sees to it
        swin = SwinTransformer(
            img_size=config.resolution,
            patch_size=config.patch_size,
            num_classes=0,
            embed_dim=config.embed_dim,
            depths=tuple(config.depths),
            num_heads=tuple(config.num_heads),
            window_size=tuple(config.window_size),  # type: ignore[arg-type]
            mlp_ratio=config.mlp_ratio,
            proj_drop_rate=config.drop_rate,
            drop_path_rate=config.drop_path_rate,
        )
        swin.set_grad_checkpointing(config.grad_checkpointing)
        if pretrained:
            begin_with(swin, config.depths, config.pretrained)
        self.trunk = FrameSwin(swin, config.clip_size, config.thumbnail_rows, config.ape)
        self.head = nn.Linear(swin.num_features, 2)

    def features(self, image: Tensor) -> Tensor:
        return self.trunk(image)  # (B, T, 3, H, W) → (B, D)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(feat)

    def convert_keys(self, state: State) -> State:
        rules = [
            (_TRUNK, r"trunk.swin.\1."),
            (r"^(?:model\.)?frame_pos_embed$", "trunk.frame_pos_embed"),
            (r"^model\.head\.", "head."),
        ]
        return rename(timm_names(state), rules)
