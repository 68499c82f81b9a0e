"""EfficientNet-B4 as a detector.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; in this field it is known from
Bonettini et al., "Video Face Manipulation Detection Through Ensemble of CNNs", ICPR 2020. From ImageNet weights, with
cross-entropy and the paper's stochastic depth (0.2 in the last block).

What differs from the paper: the padding (training/networks/efficientnet.py), so that published weights answer as they did, and
BatchNorm's statistics, which move by 0.1 a step instead of 0.01, since a fine-tuning is short. What DeepfakeBench does
otherwise: it re-initialises its stem; here that starts from ImageNet's too.

Input 256×256. 17.6 M parameters, 2.0 G multiply-adds per image at that size.
"""

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from training.config.schema import Config
from training.detectors.base import ClassificationDetector, DetectorCard
from training.detectors.registry import register_detector
from training.networks.conversion.efficientnet_keys import detector_keys
from training.networks.efficientnet import FEATURES, EfficientNetConfig, build_efficientnet, final_map
from training.networks.weights import State


class EfficientNetB4Config(Config):
    """The detector's own keys: those of its trunk."""

    backbone_config: EfficientNetConfig = Field(default_factory=EfficientNetConfig)


@register_detector(EfficientNetB4Config)
class EfficientNetB4Detector(ClassificationDetector):
    """EfficientNet-B4 → class."""

    card = DetectorCard(
        title="EfficientNet-B4",
        kind="naive",
        paper="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        year=2019,
        url="https://arxiv.org/abs/1905.11946",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )

    def __init__(self, config: EfficientNetB4Config, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_efficientnet(config, pretrained)
        self.dropout = nn.Dropout(config.backbone_config.dropout)
        self.head = nn.Linear(FEATURES, 2)

    def features(self, image: Tensor) -> Tensor:
        return final_map(self.backbone, image)  # (B, 1792, H/32, W/32)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(self.dropout(feat.mean((2, 3))))

    def convert_keys(self, state: State) -> State:
        return detector_keys(state)
