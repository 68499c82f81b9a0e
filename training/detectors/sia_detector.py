"""SIA: EfficientNet-B4 that attends to what is informative, measured by how little its neighbours foretell a feature.

Paper: Sun et al., "An Information Theoretic Approach for Attention-Driven Face Forgery Detection", ECCV 2022. After three of
EfficientNet's stages (strides 4, 8 and 16) a map is weighed by its self-information (training/detectors/parts/sia.py), in
space and by channel; what an earlier stage found informative is handed on to the later ones. The loss is cross-entropy.

What differs from the paper is what its authors' code and published weights have: a feature's window is summed before its distance
is taken, and sums over neighbouring channels mix those of five channels, not five of one. The configuration's optimisation is
the benchmark's. What DeepfakeBench does otherwise (`sia_benchmark.yaml`): it divides by the mean deviation of the whole batch,
so that an answer depends on which images stand beside one; here it is the image's own, which is the same for single images,
and lets several processes do what one does.

Input 256×256, where the maps are 63, 32 and 16. 17.6 M parameters, 2.0 G multiply-adds per image at that size.
"""

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from training.config.schema import Config, Probability
from training.detectors.base import ClassificationDetector, DetectorCard
from training.detectors.parts.sia import Link, Scope, SelfInformation
from training.detectors.registry import register_detector
from training.networks.conversion.efficientnet_keys import detector_keys
from training.networks.efficientnet import FEATURES, EfficientNetConfig, build_efficientnet, head_map, stages, stem
from training.networks.weights import State, rename


class SiaTrunk(EfficientNetConfig):
    """EfficientNet-B4 as the authors run it: block by block, every block always."""

    drop_path: Probability = Field(0.0, description="stochastic depth, growing linearly to this in the last block")


class SiaConfig(Config):
    """SIA's own keys."""

    backbone_config: SiaTrunk = Field(default_factory=SiaTrunk)
    deviation_over: Scope = Field("image", description="the mean that deviations are divided by; DeepfakeBench: batch")


@register_detector(SiaConfig)
class SiaDetector(ClassificationDetector):
    """EfficientNet-B4 with self-information attention → class."""

    card = DetectorCard(
        title="SIA",
        kind="spatial",
        paper="An Information Theoretic Approach for Attention-Driven Face Forgery Detection",
        year=2022,
        url="https://doi.org/10.1007/978-3-031-19781-9_7",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )
    # Published checkpoints also hold attention after the stages 1, 4, 6 and 7, and a classifier, which none of them used.
    unused_keys = (r"^att[0356]conv\.", r"^linear\.")

    config: SiaConfig

    def __init__(self, config: SiaConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_efficientnet(config, pretrained)
        scope = config.deviation_over
        self.attention4 = SelfInformation(32, scope)
        self.attention8 = SelfInformation(56, scope)
        self.attention16 = SelfInformation(160, scope)
        self.link4to8 = Link(32, 56)
        self.link4to16 = Link(32, 160)
        self.link8to16 = Link(56, 160)
        self.dropout = nn.Dropout(config.backbone_config.dropout)
        self.head = nn.Linear(FEATURES, 2)

    def features(self, image: Tensor) -> Tensor:
        net = self.backbone
        x = stages(net, stem(net, image), 1, 2)  # (B, 32, H/4, W/4)
        x, found4 = self.attention4(x)
        x = stages(net, x, 3, 3)  # (B, 56, H/8, W/8)
        x, found8 = self.attention8(x + self.link4to8.onto(found4, x))
        x = stages(net, x, 4, 5)  # (B, 160, H/16, W/16)
        x, _ = self.attention16(x + self.link8to16.onto(found8, x) + self.link4to16.onto(found4, x))
        return head_map(net, stages(net, x, 6, 7))  # (B, 1792, H/32, W/32)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(self.dropout(feat.mean((2, 3))))

    def convert_keys(self, state: State) -> State:
        parts = {
            "att1conv": "attention4", "att2conv": "attention8", "att4conv": "attention16",
            "conv1": "link4to8", "conv2": "link4to16", "conv3": "link8to16",
        }  # fmt: skip
        renamed = rename(state, [(rf"^{theirs}\.(?=weight|\d)", f"{ours}.") for theirs, ours in parts.items()])
        renamed = rename(
            renamed, [(r"^(attention\d+)\.weight2$", r"\1.centre"), (r"^(attention\d+)\.weight$", r"\1.window")]
        )
        return detector_keys(renamed)
