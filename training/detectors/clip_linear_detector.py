"""A linear probe on CLIP's frozen visual tower.

Paper: Radford et al., ICML 2021 (linear probes, section 3.2); as a baseline of generalizable fake detection, Ojha et al.,
"Towards Universal Fake Image Detectors that Generalize Across Generative Models", CVPR 2023. Only the head trains; the tower
runs without gradients and in evaluation mode.

Input 224 × 224 with ViT-L-14: 303.2 M parameters of which 2,050 train, 77.8 G multiply-adds per image.
"""

from __future__ import annotations

from pydantic import Field, model_validator
from torch import Tensor, nn

from training.batch import Batch, DataInfo
from training.detectors.base import ClassificationDetector, DetectorCard
from training.detectors.clip_base import ClipDetector
from training.detectors.registry import register_detector
from training.networks.clip_tower import ClipConfig
from training.networks.tuning import Tuning


class ClipLinearConfig(ClipConfig):
    """The tower is frozen unless another tuning is asked for."""

    tuning: Tuning = "none"
    cache_features: bool = Field(
        False, description="run the tower once over the frames and train on its features; needs no augmentation"
    )

    @model_validator(mode="after")
    def _only_what_is_frozen_can_be_kept(self) -> ClipLinearConfig:
        if self.cache_features and (self.tuning != "none" or self.use_data_augmentation):
            raise ValueError(
                "cache_features keeps the features of each frame from the first reading on: set tuning to none and "
                "use_data_augmentation to false, or cache_features to false"
            )
        return self


@register_detector(ClipLinearConfig)
class ClipLinear(ClipDetector, ClassificationDetector):
    """Frozen CLS token → linear."""

    config: ClipLinearConfig
    card = DetectorCard(
        "CLIP linear probe", "naive", "Towards Universal Fake Image Detectors that Generalize Across Generative Models",
        2023, "https://arxiv.org/abs/2302.10174",
    )  # fmt: skip

    def __init__(self, config: ClipLinearConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.head = nn.Linear(self.tower.width, 2)

    @property
    def caches_features(self) -> bool:
        return self.config.cache_features

    def frozen_features(self, batch: Batch) -> Tensor:
        return self.features(batch["image"])

    def features(self, image: Tensor) -> Tensor:
        return self.tower(image)[0]

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(feat)
