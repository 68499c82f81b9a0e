"""What the detectors on a CLIP tower share; the detectors themselves are files of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import WeightsError
from common.io import atomic_path
from training.batch import Batch, DataInfo
from training.config.schema import Config, NonNegative, Positive, Section
from training.detectors.base import Detector, Losses, Prediction
from training.loss.arcmargin import ArcMargin
from training.loss.classification import cross_entropy, fake_probability
from training.loss.hypersphere import alignment, uniformity
from training.loss.slerp import slerp_within_class
from training.networks.clip_tower import ClipConfig, build_clip_tower, local_tower
from training.networks.conversion.clip_keys import tower_state
from training.networks.weights import State
from training.ops.gather import gather_rows

# Under this name a file of `save_trained` keeps which frozen weights it belongs to.
_BASE = "frozen.sum_of_squares"


class SphereLosses(Section):
    """Weights of the losses on the hypersphere; 0 leaves one out."""

    alignment: NonNegative = 0.1
    uniformity: NonNegative = 0.5
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class ArcConfig(Section):
    """Scale s and margin m (radians) of ArcMargin."""

    scale: Positive = 30.0
    margin: float = Field(0.3, ge=0, lt=1.57)


class ClipSphereConfig(ClipConfig):
    """Keys of detectors whose features lie on the unit hypersphere."""

    head: Literal["linear", "arcmargin"] = Field("linear", description="classifier on the normalised features")
    arcmargin: ArcConfig = Field(default_factory=ArcConfig)
    losses: SphereLosses = Field(default_factory=SphereLosses)
    slerp: bool = Field(True, description="also classify points between features of one class")
    gather: bool = Field(False, description="alignment and uniformity over the batch of all GPUs")


class ClipDetector(Detector):
    """A tower and a head; loads Hugging Face's, open_clip's and our own key names."""

    config: ClipConfig

    def __init__(self, config: ClipConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.tower = build_clip_tower(config, pretrained)

    @classmethod
    def local_weights(cls, config: Config) -> Path | None:
        return local_tower(config.backbone_name or "", config.pretrained) if config.pretrained else None

    @classmethod
    def weights_file(cls, config: Config) -> str:
        tag = "" if config.pretrained == "openai" else f"-{config.pretrained}"
        return f"{config.backbone_name}{tag}.safetensors"

    def merge(self) -> None:
        """Fold what tuning put beside the tower's matrices into them, for export."""
        self.tower.merge()

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        losses = super().get_losses(batch, prediction)
        del losses["overall"]
        return self.summed({**losses, **self.constraints()})

    def loss_weights(self) -> dict[str, float]:
        return {**super().loss_weights(), **self.tower.constraint_weights()}

    def constraints(self) -> Losses:
        """Return the losses that the tuning puts on the tower's weights (`tuning: effort`), raw."""
        return {name: value for name, (value, _) in self.tower.constraints().items()}

    def save_trained(self, path: str | os.PathLike) -> None:
        """Write only what training moves (and buffers): a few MB, where the tower itself stands in `pretrained` anyway.

        `load_weights`, and with it every command that takes `--weights_path`, reads such a file: it takes the rest from the
        weights that `pretrained` names, and refuses when they are not those that the file was trained on.
        """
        frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        state = {name: value.detach().cpu().clone() for name, value in self.state_dict().items() if name not in frozen}
        with atomic_path(path) as temporary:
            torch.save({"state_dict": {**state, _BASE: self._base()}}, temporary)

    def _base(self) -> Tensor:
        """Return one number that tells frozen weights apart: the sum of their squares."""
        return sum((p.double().square().sum().cpu() for p in self.parameters() if not p.requires_grad), torch.zeros(()))

    def adapt_to(self, state: State) -> None:
        """Complete a file of `save_trained` with the frozen weights that it was trained on."""
        base = state.pop(_BASE, None)
        if base is None:
            return
        if not torch.isclose(self._base(), base, rtol=1e-5) and self.config.pretrained is not None:
            self.tower = build_clip_tower(self.config).to(self.device)
        if not torch.isclose(self._base(), base, rtol=1e-5):
            raise WeightsError(
                f"these weights hold only what training moved, on top of another tower than `pretrained: "
                f"{self.config.pretrained}` of {self.config.backbone_name}; name the tower that they were trained on"
            )
        state |= {name: parameter for name, parameter in self.named_parameters() if not parameter.requires_grad}

    #: names of the classifier's tensors in published checkpoints -> ours
    head_names: dict[str, str] = {}

    def convert_keys(self, state: State) -> State:
        head = {ours: state.pop(theirs) for theirs, ours in self.head_names.items() if theirs in state}
        tower = {f"tower.visual.{key}": value for key, value in tower_state(state).items()}
        return {**tower, **head}


class SphereDetector(ClipDetector):
    """Tower → features → L2 normalisation → linear or ArcMargin head, with alignment, uniformity and slerp.

    The recipe of LN-tuned CLIP (arXiv 2503.19683, 2508.06248). A subclass may enrich `embed`.
    """

    config: ClipSphereConfig

    def __init__(self, config: ClipSphereConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.head = self._make_head(self.tower.width)

    def _make_head(self, dim: int) -> nn.Module:
        if self.config.head == "arcmargin":
            return ArcMargin(dim, scale=self.config.arcmargin.scale, margin=self.config.arcmargin.margin)
        return nn.Linear(dim, 2)

    def embed(self, batch: Batch, inference: bool) -> dict[str, Any]:
        """Return `feat` `(B, D)` before normalisation, and whatever else goes with the prediction."""
        cls, _ = self.tower(batch["image"])
        return {"feat": cls}

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        embedded = self.embed(batch, inference)
        sphere = F.normalize(embedded["feat"].float(), dim=1)  # (B, D)
        cls = self.head(sphere)
        return {**embedded, "l2": sphere, "cls": cls, "prob": fake_probability(cls)}

    def classify(self, sphere: Tensor, label: Tensor) -> Tensor:
        """Return training logits `(B, 2)`: ArcMargin puts its margin on the label."""
        return self.head(sphere, label) if isinstance(self.head, ArcMargin) else self.head(sphere)

    def loss_weights(self) -> dict[str, float]:
        losses = self.config.losses
        return {**super().loss_weights(), "alignment": losses.alignment, "uniformity": losses.uniformity}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        weights, label, sphere = self.config.losses, batch["label"], prediction["l2"]
        points, targets = sphere, label
        if self.config.slerp and self.training:
            between, _ = slerp_within_class(sphere, label)
            points, targets = torch.cat([sphere, between]), torch.cat([label, label])
        losses: Losses = {"cls": cross_entropy(self.classify(points, targets), targets, weights.label_smoothing)}
        everyone, labels = sphere, label
        if self.config.gather:
            own = not batch.get("stand_in", False)
            everyone, labels = gather_rows(sphere, own), gather_rows(label, own)
        if weights.alignment:
            losses["alignment"] = alignment(everyone, labels)
        if weights.uniformity:
            losses["uniformity"] = uniformity(everyone)
        return self.summed({**losses, **self.constraints()})
