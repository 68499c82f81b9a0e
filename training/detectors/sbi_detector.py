"""SBI: EfficientNet-B4 trained on real faces alone, each against a blend of itself.

Paper: Shiohara & Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022. The network is a plain classifier under
cross-entropy, optimised with SAM; what is new are its training images, made by the recipe `sbi`
(training/dataset/recipes/sbi_recipe.py), which any detector can take with `dataset_type: sbi`. No forgery is read unless
`recipe.real_fakes` asks for some.

What differs from the paper: inputs are normalised by ImageNet's mean and deviation instead of brought to [0, 1]; BatchNorm's
statistics move by 0.1 a step instead of 0.01. What DeepfakeBench does otherwise (`sbi_benchmark.yaml`): 256 pixels, Adam, c23,
no padding in the stem, and three outputs of which it trains two; `prob` is the second of the softmax over all that there are.
Its weights load, and so do the authors' own (`net.…`): the detector then takes their outputs and padding, and for the authors'
the input range [0, 1].

Input 380 × 380: 17.6 M parameters, 4.4 G multiply-adds per image; 2.0 G at 256 × 256.
"""

import logging
import os
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from training.config.schema import Config, Triple
from training.detectors.base import ClassificationDetector, DetectorCard
from training.detectors.registry import register_detector
from training.networks.conversion.efficientnet_keys import detector_keys
from training.networks.efficientnet import FEATURES, EfficientNetConfig, build_efficientnet, final_map, pad_stem
from training.networks.weights import State, rename

log = logging.getLogger("clipdeepfake")
# The classifier's names: ours, DeepfakeBench's, the authors'.
_HEADS = ("head.weight", "backbone.last_layer.weight", "net._fc.weight")
# How a file's names begin → whether its stem was trained with padding.
_PADDED = {"backbone.efficientnet.": False, "net.": True}


class SbiTrunk(EfficientNetConfig):
    """EfficientNet-B4 as the authors take it."""

    stem_padding: bool = Field(True, description="pad the stem as EfficientNet does; DeepfakeBench's weights have none")


class SbiConfig(Config):
    """The detector's own keys."""

    pretrained: str | None = Field("tf_efficientnet_b4.ap_in1k", description="a tag of timm, a local file, or null")
    backbone_config: SbiTrunk = Field(default_factory=SbiTrunk)
    dataset_type: str | None = "sbi"
    mean: Triple = [0.485, 0.456, 0.406]
    std: Triple = [0.229, 0.224, 0.225]


@register_detector(SbiConfig)
class SbiDetector(ClassificationDetector):
    """EfficientNet-B4 → class."""

    card = DetectorCard(
        title="SBI",
        kind="spatial",
        paper="Detecting Deepfakes with Self-Blended Images",
        year=2022,
        url="https://arxiv.org/abs/2204.08376",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )

    config: SbiConfig

    def __init__(self, config: SbiConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        asked = config.backbone_config
        self.backbone = build_efficientnet(config, pretrained, num_classes=asked.num_classes)
        self.dropout = nn.Dropout(asked.dropout)
        self.head = nn.Linear(FEATURES, asked.num_classes)

    def features(self, image: Tensor) -> Tensor:
        return final_map(self.backbone, image)  # (B, 1792, H/32, W/32)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(self.dropout(feat.mean((2, 3))))

    def convert_keys(self, state: State) -> State:
        return detector_keys(rename(state, [(r"^net\._fc\.", "head."), (r"^net\.", "backbone.")]))

    def adapt_to(self, state: State) -> None:
        trunk = self.config.backbone_config
        head = next((state[key] for key in _HEADS if key in state), self.head.weight)
        if len(head) != len(self.head.weight):
            log.warning("the weights have %d outputs, and so has the detector now", len(head))
            self.head = nn.Linear(FEATURES, len(head))
            trunk = trunk.model_copy(update={"num_classes": len(head)})
        for prefix, padded in _PADDED.items():
            if any(key.startswith(prefix) for key in state) and padded != trunk.stem_padding:
                log.warning(
                    "the weights were trained %s padding in the stem: so is it now", "with" if padded else "without"
                )
                pad_stem(self.backbone, padded)
                trunk = trunk.model_copy(update={"stem_padding": padded})
        self.config = self.config.model_copy(update={"backbone_config": trunk})
        if any(key.startswith("net.") for key in state):
            log.warning("these are the authors' weights: inputs are brought to [0, 1], as theirs were")
            self.config = self.config.model_copy(update={"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]})

    def load_weights(self, state_or_path: State | str | os.PathLike, strict: bool = True) -> None:
        super().load_weights(state_or_path, strict)
        # What the weights say of their inputs counts once they are in.
        for buffer, values in ((self.mean, self.config.mean), (self.std, self.config.std)):
            buffer.copy_(torch.tensor(values).view(3, 1, 1) * 255)
