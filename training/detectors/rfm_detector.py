"""RFM: the network looks at what it has not yet looked at, because what it looks at is erased.

Paper: Wang & Deng, "Representative Forgery Mining for Fake Face Detection", CVPR 2021. A detector stares at a small part of a
face. In every training step the Forgery Attention Map tells which pixels move its answer most,

    FAM = max over colours of | ∂ |o_fake − o_real| / ∂ image |

and N = 3 blocks around the most suspicious pixels, of sides up to 120 pixels, are replaced by noise before the step is taken
(`training/detectors/parts/rfm.py`). Prediction is Xception's, with cross-entropy as the only loss.

What differs from the paper: crops, optimiser and epochs are the benchmark's, as for all detectors on Xception; the map is made
with BatchNorm in evaluation, as DeepfakeBench does. What DeepfakeBench does otherwise: it erases in evaluation too where
`inference` is not said, fixes the image at 256 pixels, and draws the blocks from one generator of the process. Its checkpoints
load.

Input 256×256. 20.8 M parameters, 6.0 G multiply-adds per image at that size; a training step costs one forward and one backward
pass to the image more.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from training.batch import Batch, DataInfo
from training.config.schema import Config, Section
from training.detectors.base import Clock, DetectorCard, Prediction
from training.detectors.parts.rfm import Erasing, forgery_attention_map
from training.detectors.registry import register_detector
from training.detectors.xception_base import XceptionClassifier


class ErasingConfig(Section):
    """How much is erased."""

    blocks: int = Field(3, ge=0, le=64, description="N, blocks that an image loses in a training step; 0: none")
    largest: int = Field(120, ge=1, le=4096, description="of a block's sides, pixels")


class RfmConfig(Config):
    """RFM's own keys."""

    erasing: ErasingConfig = Field(default_factory=ErasingConfig)


@register_detector(RfmConfig)
class RfmDetector(XceptionClassifier):
    """Xception → class; in training on images that have lost their most suspicious places."""

    card = DetectorCard(
        title="RFM",
        kind="spatial",
        paper="Representative Forgery Mining for Fake Face Detection",
        year=2021,
        url="https://arxiv.org/abs/2104.06609",
        parity="DeepfakeBench: outputs",
    )

    config: RfmConfig

    def __init__(self, config: RfmConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.erasing = Erasing(config.erasing.blocks, config.erasing.largest)
        self.step = 0

    def before_step(self, clock: Clock) -> None:
        self.step = clock.step

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        if inference or not self.training or not self.config.erasing.blocks:
            return super().forward(batch, inference)
        attention = forgery_attention_map(self._steady_logits, batch["image"])
        image = self._erased(batch, attention)
        return {**super().forward({**batch, "image": image}), "fam": attention}

    def _steady_logits(self, image: Tensor) -> Tensor:
        """Return logits with BatchNorm's running statistics and without dropout."""
        self.eval()
        try:
            return self.classifier(self.features(image))
        finally:
            self.train()

    def _erased(self, batch: Batch, attention: Tensor) -> Tensor:
        """Return the images with noise at their most suspicious places."""
        image = batch["image"]
        place = batch["index"].tolist() if "index" in batch else range(len(image))
        erased, noise = self.erasing(attention, [(self.config.manualSeed, self.step, each) for each in place])
        return torch.where(erased, ((noise - self.mean) / self.std).to(image.dtype), image)
