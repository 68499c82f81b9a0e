"""What the detectors share that are Xception and a linear classifier; they differ in data, losses or training."""

from typing import Any

from torch import Tensor

from training.config.schema import Config
from training.detectors.base import ClassificationDetector
from training.networks.conversion.xception_keys import UNUSED_KEYS, head_keys
from training.networks.weights import State
from training.networks.xception_stages import Head, build_xception, final_map


class XceptionClassifier(ClassificationDetector):
    """Xception → class. `feat` is the last map, activated."""

    unused_keys = UNUSED_KEYS

    def __init__(self, config: Config, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_xception(config, pretrained)
        self.head = Head(config)

    def features(self, image: Tensor) -> Tensor:
        return final_map(self.backbone, image)  # (B, 2048, H/32, W/32)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(feat.mean((2, 3)))

    def convert_keys(self, state: State) -> State:
        return head_keys(state)
