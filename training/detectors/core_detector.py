"""CORE: two views of one face should look the same to the network.

Ni et al., "CORE: Consistent Representation Learning for Face Forgery Detection", CVPR Workshops 2022.

    L = L_cls + α · mean (1 − cos(f₁, f₂))²       over the pooled features of both views of every frame

The recipe `views` makes the pairs (training/dataset/recipes/views_recipe.py). The configuration holds the paper's
cross-dataset setting, α = 100 with one of nothing, erasing or cropping; within one dataset the paper takes α = 1 with erasing.

What DeepfakeBench does otherwise: α = 1, and no second view is ever made: its loss compares the first half of a batch of
unrelated frames with the second. `consistency_weight: 1` on such a batch gives its figures.

Input 256×256. 20.8 M parameters, 6.0 G multiply-adds per image at that size.
"""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from training.batch import Batch
from training.config.schema import Config, NonNegative
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.core import cosine_consistency
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.networks.conversion.xception_keys import UNUSED_KEYS, head_keys
from training.networks.weights import State
from training.networks.xception_stages import Head, build_xception, final_map


class CoreConfig(Config):
    """CORE's own keys."""

    dataset_type: str | None = "views"
    loss_func: Literal["consistency_loss"] = "consistency_loss"
    consistency_weight: NonNegative = Field(100.0, description="α; 100 across datasets, 1 within one")


@register_detector(CoreConfig)
class CoreDetector(Detector):
    """Xception → pooled features → class, and agreement of the two views' features."""

    card = DetectorCard(
        title="CORE",
        kind="spatial",
        paper="CORE: Consistent Representation Learning for Face Forgery Detection",
        year=2022,
        url="https://arxiv.org/abs/2206.02749",
        parity="DeepfakeBench: outputs, losses and gradient norm",
    )
    unused_keys = UNUSED_KEYS

    config: CoreConfig

    def __init__(self, config: CoreConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_xception(config, pretrained)
        self.head = Head(config)

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        feat = final_map(self.backbone, batch["image"])  # (B, 2048, h, w)
        pooled = feat.mean((2, 3))
        cls = self.head(pooled)  # (B, 2)
        return {"cls": cls, "prob": fake_probability(cls), "feat": feat, "core_feat": pooled}

    def loss_weights(self) -> dict[str, float]:
        return {"consistency": self.config.consistency_weight}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        cls = cross_entropy(prediction["cls"], batch["label"])
        first, second = views(prediction["core_feat"])
        return self.summed({"cls": cls, "consistency": cosine_consistency(first, second)})

    def convert_keys(self, state: State) -> State:
        return head_keys(state)


def views(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of the first and of the second view of a role-major batch."""
    half = len(rows) // 2
    return rows[:half], rows[half : 2 * half]
