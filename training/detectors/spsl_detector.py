"""SPSL: colours and phase in a shallow network.

Liu et al., "Spatial-Phase Shallow Learning: Rethinking Face Forgery Detection in Frequency Domain", CVPR 2021. A fourth channel
shows what the phase of the spectrum alone draws, where up-sampling leaves its traces; Xception without its middle flow keeps
the receptive field small, so that local texture decides. Cross-entropy.

What differs from the paper: 256 pixels of an aligned crop, as all detectors of the benchmark. ImageNet's first kernels are tiled
over the four channels and scaled by 3/4. What DeepfakeBench does otherwise: all of Xception (`backbone_config.mode: original`),
and its weights are so; weights of either depth load, and give the detector that depth. It trains on 4 frames a video, and
there averages ImageNet's first kernels over the colours.

Input 256×256. 7.9 M parameters, 2.7 G multiply-adds per image at that size (the whole Xception: 20.8 M, 6.0 G).
"""

import logging
from typing import Any, Literal

import torch
from pydantic import Field
from timm.models.xception import Block
from torch import Tensor, nn

from training.config.schema import BackboneConfig, Config
from training.detectors.base import ClassificationDetector, DetectorCard
from training.detectors.parts.spsl import phase_image
from training.detectors.registry import register_detector
from training.networks.conversion.xception_keys import UNUSED_KEYS, head_keys
from training.networks.weights import State
from training.networks.xception_stages import MIDDLE, Head, build_xception, final_map

log = logging.getLogger("clipdeepfake")

_MIDDLE_FLOW = range(4, 12)


class SpslBackbone(BackboneConfig):
    """The trunk's variant."""

    mode: Literal["shallow_xception", "original"] = Field(
        "shallow_xception", description="without the middle flow, as in the paper | all of Xception"
    )
    inc: Literal[4] = 4


class SpslConfig(Config):
    """SPSL's own keys."""

    backbone_config: SpslBackbone = Field(default_factory=SpslBackbone)
    loss_func: Literal["cross_entropy"] = "cross_entropy"


@register_detector(SpslConfig)
class SpslDetector(ClassificationDetector):
    """Image and phase → shallow Xception → class."""

    card = DetectorCard(
        title="SPSL",
        kind="frequency",
        paper="Spatial-Phase Shallow Learning: Rethinking Face Forgery Detection in Frequency Domain",
        year=2021,
        url="https://arxiv.org/abs/2103.01856",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )
    unused_keys = UNUSED_KEYS

    config: SpslConfig

    def __init__(self, config: SpslConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_xception(config, pretrained, inc=4, mode=config.backbone_config.mode)
        self.head = Head(config)
        self.shallow = False
        self.set_depth(shallow=config.backbone_config.mode == "shallow_xception")

    def set_depth(self, shallow: bool) -> None:
        """Take the middle flow out, or put one with random weights in."""
        if shallow != self.shallow:
            for number in _MIDDLE_FLOW:
                self.backbone.add_module(f"block{number}", nn.Identity() if shallow else Block(MIDDLE, MIDDLE, reps=3))
        self.shallow = shallow

    def features(self, image: Tensor) -> Tensor:
        return final_map(self.backbone, torch.cat([image, phase_image(image)], dim=1))  # (B, 2048, H/32, W/32)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(feat.mean((2, 3)))

    def convert_keys(self, state: State) -> State:
        return head_keys(state)

    def adapt_to(self, state: State) -> None:
        if not any(key.startswith("backbone.block3.") for key in state):
            return  # of another network altogether
        shallow = not any(key.startswith("backbone.block4.") for key in state)
        if shallow != self.shallow:
            log.warning(
                "the weights are of %s Xception, and so is the detector now, whatever backbone_config.mode says",
                "the shallow" if shallow else "the whole",
            )
        self.set_depth(shallow)
