"""What the detectors on a 3-D ResNet share: one sigmoid for a clip; the detectors themselves are files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from training.batch import Batch
from training.config.schema import Config
from training.detectors.base import Detector, Losses, Prediction
from training.networks.conversion.resnet3d_keys import trunk_keys
from training.networks.resnet3d import PUBLISHED, Resnet3dConfig, build_resnet3d, local_resnet3d
from training.networks.weights import State, rename


class OneSigmoid(Detector):
    """Clips `(B, T, 3, H, W)` → one sigmoid: `cls` `(B, 1)`, as the field has it, and `prob` `(B,)`.

    Training is on the logit, where a sure answer has a gradient too. A subclass defines `features` and `classifier`.
    """

    config: Resnet3dConfig

    @classmethod
    def local_weights(cls, config: Config) -> Path | None:
        return local_resnet3d(config.pretrained) if config.pretrained else None

    @classmethod
    def weights_file(cls, config: Config) -> str:
        return Path(config.pretrained or PUBLISHED).name

    def features(self, clip: Tensor) -> Tensor:
        """Return the features of normalised clips `(B, T, 3, H, W)`."""
        raise NotImplementedError

    def classifier(self, feat: Tensor) -> Tensor:
        """Return logits `(B, 1)` of a fake."""
        raise NotImplementedError

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        feat = self.features(batch["image"])
        logit = self.classifier(feat).float()  # (B, 1)
        cls = logit.sigmoid()
        return {"cls": cls, "prob": cls[:, 0], "feat": feat, "logit": logit[:, 0]}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        return self.summed({"cls": F.binary_cross_entropy_with_logits(prediction["logit"], batch["label"].float())})


class I3dConfig(Resnet3dConfig):
    """The trunk's keys, and the dropout before the classifier."""

    dropout: float = Field(0.5, ge=0, lt=1, description="before the classifier")


class I3dClassifier(OneSigmoid):
    """3-D ResNet-50 → mean over places and times → linear."""

    config: I3dConfig

    def __init__(self, config: I3dConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.trunk = build_resnet3d(config, pretrained)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.trunk.shape.channels, 1)

    def features(self, clip: Tensor) -> Tensor:
        return self.trunk(clip).mean((2, 3, 4))  # (B, C)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(self.dropout(feat))

    def convert_keys(self, state: State) -> State:
        return rename(trunk_keys(state, "trunk."), [(r"^head\.projection\.", "head.")])
