"""CNN-Aug: an image classifier and careful augmentation find the pictures of networks it never saw.

Wang et al., "CNN-Generated Images Are Surprisingly Easy to Spot… for Now", CVPR 2020. From ImageNet weights; half of the images
are blurred (σ up to 3) and half compressed as JPEG (quality 30 to 100), so that the classifier cannot lean on fine traces that
the next generator lacks. Adam (1e-4), batches of 64.

What differs from the paper: ResNet-34, which is of Xception's size and whose weights are published by DeepfakeBench
(`backbone_name: resnet50` is the paper's); two logits and their cross-entropy, which is the same as one and its; mean and
standard deviation 0.5, and no crops of 224 pixels, as in the benchmark; a number of epochs instead of a learning rate that
falls when validation stalls. What DeepfakeBench does otherwise: the augmentation of all its detectors, at 2e-4.

Input 256×256. 21.3 M parameters, 4.8 G multiply-adds per image at that size.
"""

from typing import Any, Literal

import timm
from pydantic import Field, model_validator
from torch import Tensor, nn

from training.config.schema import Config
from training.detectors.base import ClassificationDetector, DetectorCard
from training.detectors.registry import register_detector
from training.networks.pretrained import load_pretrained
from training.networks.weights import State, rename

# torchvision's children in their order, as DeepfakeBench has them in one sequence.
_PLACES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


class CnnAugConfig(Config):
    """CNN-Aug's own keys."""

    backbone_name: Literal["resnet34", "resnet50"] = Field("resnet34", description="resnet50 is the paper's")  # type: ignore[assignment]

    @model_validator(mode="after")
    def _one_variant(self) -> "CnnAugConfig":
        asked = self.backbone_config
        if (asked.inc, asked.num_classes) != (3, 2) or (asked.mode or "original").lower() != "original":
            raise ValueError("backbone_config: this detector takes mode original, inc 3 and num_classes 2")
        return self


@register_detector(CnnAugConfig)
class CnnAugDetector(ClassificationDetector):
    """ResNet → class."""

    card = DetectorCard(
        title="CNN-Aug",
        kind="naive",
        paper="CNN-Generated Images Are Surprisingly Easy to Spot… for Now",
        year=2020,
        url="https://arxiv.org/abs/1912.11035",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )

    def __init__(self, config: CnnAugConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone: Any = timm.create_model(
            config.backbone_name, pretrained=False, num_classes=0, zero_init_last=False
        )
        if pretrained:
            load_pretrained(self.backbone, config.pretrained, config.backbone_name, ignore=(r"^fc\.",))
        self.dropout = nn.Dropout(config.backbone_config.dropout)
        self.head = nn.Linear(self.backbone.num_features, 2)  # type: ignore[arg-type]

    def features(self, image: Tensor) -> Tensor:
        return self.backbone.forward_features(image)  # (B, 512, H/32, W/32)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(self.dropout(feat.mean((2, 3))))

    def convert_keys(self, state: State) -> State:
        places = [(rf"^backbone\.resnet\.{number}\.", f"backbone.{name}.") for number, name in _PLACES.items()]
        return rename(state, [*places, (r"^backbone\.fc\.", "head.")])
