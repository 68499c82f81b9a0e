"""Effort: CLIP whose attention matrices are split in two; what they know stays frozen, a remainder beside it learns.

Paper: Yan et al., "Orthogonal Subspace Decomposition for Generalizable AI-Generated Image Detection", ICML 2025 (arXiv
2411.15633). A detector that is trained naively learns the fakes that it sees first and lets its features collapse into a few
dimensions. Effort keeps the pre-trained ones: the SVD of every attention matrix gives a principal part, frozen, and a
residual part of the smallest singular value, trained, and two losses keep the trained part orthogonal and the matrix's norm
as it was (`training/networks/tuning/effort.py`, which every other CLIP detector takes as `tuning: effort`).

    L = L_cls + λ1 · L_orthogonality + λ2 · L_singular_values        λ1 = λ2 = 1, means over all matrices

`real` and `fake`, the cross-entropies of the two classes alone, are for looking at: the paper's asymmetry is the second falling
long before the first.

What differs from the paper: nothing but how the losses are computed, see there. What DeepfakeBench does otherwise (and the
authors' public code): cross-entropy alone, both constraints at 0 (`effort_benchmark.yaml`). Weights of either load.

Input 224 × 224 with ViT-L-14: 303.4 M parameters of which 198,754 train, 77.9 G multiply-adds per image.
`detector.save_trained(path)` writes those alone, with what the constraints compare with: 1.6 MB instead of 1.2 GB.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from training.batch import Batch, DataInfo
from training.detectors.base import ClassificationDetector, DetectorCard, Losses, Prediction
from training.detectors.clip_base import ClipDetector
from training.detectors.parts.effort import split_tower
from training.detectors.registry import register_detector
from training.networks.clip_tower import ClipConfig
from training.networks.tuning import Tuning
from training.networks.weights import State


class EffortConfig(ClipConfig):
    """The CLIP tower's keys; `effort` holds the residual's rank and the weights of the constraints."""

    tuning: Tuning = "effort"


@register_detector(EffortConfig)
class Effort(ClipDetector, ClassificationDetector):
    """CLS token of the split tower → linear."""

    config: EffortConfig
    card = DetectorCard(
        "Effort", "spatial", "Orthogonal Subspace Decomposition for Generalizable AI-Generated Image Detection", 2025,
        "https://arxiv.org/abs/2411.15633", "outputs, losses and gradient norm of DeepfakeBench",
    )  # fmt: skip

    def __init__(self, config: EffortConfig, data_info: DataInfo | None = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.head = nn.Linear(self.tower.width, 2)

    def features(self, image: Tensor) -> Tensor:
        return self.tower(image)[0]

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(feat)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"real": (batch["label"] == 0).sum(), "fake": (batch["label"] == 1).sum()}

    def loss_weights(self) -> dict[str, float]:
        return {**super().loss_weights(), "real": 0.0, "fake": 0.0}  # of each class alone, to be looked at

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        losses, label = super().get_losses(batch, prediction), batch["label"]
        counts = batch.get("counts") or self.counts(batch)
        each = F.cross_entropy(prediction["cls"].float(), label, reduction="none").detach()
        for value, name in enumerate(("real", "fake")):
            losses[name] = each[label == value].sum() / counts[name].clamp_min(1e-6)
        return losses

    def convert_keys(self, state: State) -> State:
        head = {key: state.pop(key) for key in ("head.weight", "head.bias") if key in state}
        return {f"tower.visual.{key}": value for key, value in split_tower(state).items()} | head
