"""What the detectors on a video transformer share; the detectors themselves are files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from training.batch import DataInfo
from training.config.schema import Config
from training.detectors.base import ClassificationDetector
from training.networks.video_transformers import (
    Architecture,
    VideoTransformerConfig,
    build_video_transformer,
    check_clip,
)
from training.networks.weights import State, rename


class VideoTransformerDetector(ClassificationDetector):
    """Clips `(B, T, 3, H, W)` → a transformer's tokens → features `(B, D)` → linear.

    A subclass names its architecture and defines `pooled`.
    """

    config: VideoTransformerConfig
    architecture: ClassVar[Architecture]
    unused_keys = (r"embeddings\.position_ids$",)

    def __init__(self, config: VideoTransformerConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_video_transformer(self.architecture, config, pretrained, **self.own_settings(config))
        self.head = nn.Linear(config.backbone_config.width, config.backbone_config.num_classes)

    def own_settings(self, config: Any) -> dict[str, Any]:
        """Return what only this architecture is told, by the library's names."""
        return {"num_frames": config.clip_size}

    @classmethod
    def weights_file(cls, config: Config) -> str:
        return f"{Path(config.pretrained or '').name}.safetensors"

    def pooled(self, clip: Tensor) -> Tensor:
        """Return features `(B, D)` of clips of the right size."""
        raise NotImplementedError

    def features(self, image: Tensor) -> Tensor:
        check_clip(image, self.config)
        return self.pooled(image)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(feat)

    def convert_keys(self, state: State) -> State:
        return self.architecture.names(rename(state, [(r"^classifier\.", "head.")]), "backbone.")
