"""CLIP's ViT-B/16, all of it trained, with a linear head on the pooled token: the benchmark's CLIP baseline.

Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021. The paper does not
detect deepfakes; the use of its visual tower as a detector, the optimiser settings and the normalisation of inputs with 0.5
instead of CLIP's own statistics follow DeepfakeBench, so that its weights give its numbers.

Input 224 × 224; 85.8 M parameters, 16.9 G multiply-adds per image.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from training.batch import DataInfo
from training.config.schema import Triple
from training.detectors.base import ClassificationDetector, DetectorCard
from training.detectors.clip_base import ClipDetector
from training.detectors.registry import register_detector
from training.networks.clip_tower import ClipConfig
from training.networks.tuning import Tuning


class ClipFullConfig(ClipConfig):
    """As in the benchmark's file; `backbone_name: vit` there means ViT-B-16."""

    backbone_name: str = Field("ViT-B-16", validate_default=True)
    tuning: Tuning = "full"
    mean: Triple = [0.5, 0.5, 0.5]
    std: Triple = [0.5, 0.5, 0.5]


@register_detector(ClipFullConfig)
class ClipFull(ClipDetector, ClassificationDetector):
    """Pooled token after the last LayerNorm → linear."""

    card = DetectorCard(
        "CLIP", "naive", "Learning Transferable Visual Models From Natural Language Supervision", 2021,
        "https://arxiv.org/abs/2103.00020", "outputs and losses of DeepfakeBench",
    )  # fmt: skip
    head_names = {"head.weight": "head.weight", "head.bias": "head.bias"}

    def __init__(self, config: ClipFullConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.head = nn.Linear(self.tower.width, config.backbone_config.num_classes)

    def features(self, image: Tensor) -> Tensor:
        return self.tower(image)[0]

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(feat)
