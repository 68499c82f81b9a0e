"""What the two MesoNets share: a trunk, and the same two layers over its flattened map."""

from torch import Tensor, nn

from training.detectors.base import ClassificationDetector
from training.networks.mesonet import MesoHead


class MesoClassifier(ClassificationDetector):
    """Trunk → two layers → class. A subclass builds `backbone` and `head`; `feat` is the flattened map."""

    backbone: nn.Sequential
    head: MesoHead

    def features(self, image: Tensor) -> Tensor:
        return self.backbone(image)  # (B, 16·H/32·W/32)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(feat)
