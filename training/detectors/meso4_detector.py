"""Meso4: four convolutions that look at a face's mesoscopic properties.

Afchar et al., "MesoNet: a Compact Facial Video Forgery Detection Network", WIFS 2018. Trained from scratch with Adam; the
learning rate falls from 1e-3 to 1e-6 by a factor of 10 every 1000 steps of 75 images, which is about an epoch of
FaceForensics++.

What differs from the paper: convolutions have no bias, and real and fake have a logit each with cross-entropy, where the authors'
code has one sigmoid with a squared error; so do the weights that DeepfakeBench publishes. What DeepfakeBench does otherwise:
one BatchNorm serves two convolutions (`backbone_config.norms: shared`; its weights load and predict the same either way),
and it trains with a constant 2e-4 without augmentation.

Input 256×256. 27,946 parameters, 60 M multiply-adds per image at that size.
"""

from typing import Any

from pydantic import Field

from training.config.schema import Config
from training.detectors.base import DetectorCard
from training.detectors.meso_base import MesoClassifier
from training.detectors.registry import register_detector
from training.networks.conversion.mesonet_keys import meso4_keys
from training.networks.mesonet import MesoConfig, MesoHead, meso4_trunk
from training.networks.weights import State


class Meso4Config(Config):
    """The detector's own keys: those of its trunk."""

    backbone_config: MesoConfig = Field(default_factory=MesoConfig)


@register_detector(Meso4Config)
class Meso4Detector(MesoClassifier):
    """Four convolutions → two layers → class."""

    card = DetectorCard(
        title="Meso4",
        kind="naive",
        paper="MesoNet: a Compact Facial Video Forgery Detection Network",
        year=2018,
        url="https://arxiv.org/abs/1809.00888",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )

    def __init__(self, config: Meso4Config, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = meso4_trunk(config.backbone_config)
        self.head = MesoHead(config)

    def convert_keys(self, state: State) -> State:
        return meso4_keys(state)
