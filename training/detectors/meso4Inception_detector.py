"""MesoInception4: Meso4 whose first two layers are inception modules with dilated convolutions.

Afchar et al., "MesoNet: a Compact Facial Video Forgery Detection Network", WIFS 2018. Trained as Meso4 is.

What differs from the paper: as in Meso4; and the branches of the inception modules are linear, as in the weights that
DeepfakeBench publishes (`backbone_config.branch_activation: relu` is the authors' and wants other weights). What DeepfakeBench
does otherwise: as in Meso4.

Input 256×256. 28,557 parameters, 57 M multiply-adds per image at that size.
"""

from typing import Any

from pydantic import Field

from training.config.schema import Config
from training.detectors.base import DetectorCard
from training.detectors.meso_base import MesoClassifier
from training.detectors.registry import register_detector
from training.networks.conversion.mesonet_keys import meso_inception_keys
from training.networks.mesonet import MesoHead, MesoInceptionConfig, meso_inception_trunk
from training.networks.weights import State


class MesoInception4Config(Config):
    """The detector's own keys: those of its trunk."""

    backbone_config: MesoInceptionConfig = Field(default_factory=MesoInceptionConfig)


@register_detector(MesoInception4Config)
class MesoInception4Detector(MesoClassifier):
    """Two inception modules and two convolutions → two layers → class."""

    card = DetectorCard(
        title="MesoInception4",
        kind="naive",
        paper="MesoNet: a Compact Facial Video Forgery Detection Network",
        year=2018,
        url="https://arxiv.org/abs/1809.00888",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )

    def __init__(self, config: MesoInception4Config, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = meso_inception_trunk(config.backbone_config)
        self.head = MesoHead(config)

    def convert_keys(self, state: State) -> State:
        return meso_inception_keys(state)
