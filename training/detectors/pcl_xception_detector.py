"""PCL-I2G: a forged image is made of two sources, so its patches do not agree with one another.

Zhao et al., "Learning Self-Consistency for Deepfake Detection", ICCV 2021. Patches f_i of Xception's middle flow (after block 7)
are embedded by one 1×1 convolution θ; two are consistent with probability σ(⟨θ(f_i), θ(f_j)⟩ / √C). That volume is to be
1 − |m_i − m_j|, m being how much of a patch was blended in. Only the classifier, on the features that this shapes, judges. The
blends come from real faces alone: the recipe `i2g` (training/dataset/recipes/i2g_recipe.py).

    L = λ · L_pcl + L_cls        cross-entropy over all pairs of patches, λ = 10, and cross-entropy of the class

What differs from the paper: Xception instead of ResNet-34, as in DeepfakeBench. What DeepfakeBench does otherwise: λ = 1, wrong
targets for the patches at the left border, and cross-entropy of rounded probabilities, which has no gradient where the network
is surely wrong (`pcl_loss: deepfakebench`); all of it in `pcl_xception_benchmark.yaml`. Its second embedding and its layers for a
type, a magnitude and a map are in its weights and in no computation.

With another recipe the stored masks (`with_mask`) or the recipe's own stand in for the blends'; a fake whose mask nobody recorded
counts in no L_pcl.

Input 256×256 (16×16 patches). 21.3 M parameters, 6.0 G multiply-adds per image at that size; 0.2 G more in training.
"""

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from common.errors import ConfigError
from training.batch import Batch
from training.config.schema import Config, NonNegative
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.pcl import PatchConsistency, benchmark_consistency_loss, consistency_loss, patch_masks
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.loss.masked import known_masks, known_mean
from training.networks.conversion.xception_keys import UNUSED_KEYS, head_keys
from training.networks.weights import State, rename
from training.networks.xception_stages import (
    MIDDLE,
    Head,
    blocks,
    build_xception,
    exit_flow,
    stem_first,
    stem_second,
)


class PclConfig(Config):
    """PCL's own keys."""

    dataset_type: str | None = "i2g"
    pcl_loss_weight: NonNegative = Field(10.0, description="λ, the weight of the patches' consistency")
    pcl_loss: Literal["paper", "deepfakebench"] = Field("paper", description="how that is measured; see parts/pcl.py")


@register_detector(PclConfig)
class PclXceptionDetector(Detector):
    """Xception whose middle map learns which patches are of one source."""

    card = DetectorCard(
        title="PCL-I2G",
        kind="spatial",
        paper="Learning Self-Consistency for Deepfake Detection",
        year=2021,
        url="https://arxiv.org/abs/2012.09311",
        parity="DeepfakeBench: outputs, losses and gradient norm",
    )
    training_only = (r"^consistency\.",)
    unused_keys = (*UNUSED_KEYS, r"^backbone\.(type_fc|mag_fc|map)\.", r"^PCL\.phi\.")

    config: PclConfig

    def __init__(self, config: PclConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_xception(config, pretrained)
        self.consistency = PatchConsistency(MIDDLE)
        self.head = Head(config)

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        x = stem_second(self.backbone, stem_first(self.backbone, batch["image"]))
        middle = blocks(self.backbone, x, 1, 7)  # (B, 728, H/16, W/16)
        feat = exit_flow(self.backbone, blocks(self.backbone, middle, 8, 12))  # (B, 2048, H/32, W/32)
        cls = self.head(feat.relu().mean((2, 3)))
        answer = {"cls": cls, "prob": fake_probability(cls), "feat": feat}
        return answer if inference else {**answer, "consistency": self.consistency(middle)}  # (B, N, N)

    def loss_weights(self) -> dict[str, float]:
        return {"pcl": self.config.pcl_loss_weight}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"pcl": _blended(batch)[1].sum()}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        mask, known = _blended(batch)
        logit = prediction["consistency"]
        measured = consistency_loss if self.config.pcl_loss == "paper" else benchmark_consistency_loss
        each = measured(logit, patch_masks(mask, math.isqrt(logit.shape[1])))
        pcl = known_mean(each, known, batch.get("counts", {}).get("pcl"))
        return self.summed({"cls": cross_entropy(prediction["cls"], batch["label"]), "pcl": pcl})

    def convert_keys(self, state: State) -> State:
        return rename(head_keys(state), [(r"^PCL\.theta\.", "consistency.embed.")])


def _blended(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return how much of each pixel was blended in, `(B, 1, H, W)`, and of whom that is known, `(B,)` bool."""
    if "blend" in batch:
        return batch["blend"], torch.ones_like(batch["label"], dtype=torch.bool)
    if "mask" not in batch:
        raise ConfigError("pcl_xception learns from masks; set `dataset_type: i2g`, or `with_mask: true`")
    return batch["mask"], known_masks(batch["mask"], batch["label"])
