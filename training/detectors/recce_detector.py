"""RECCE: learn to rebuild real faces, and look where that fails.

Cao et al., "End-to-End Reconstruction-Classification Learning for Face Forgery Detection", CVPR 2022. Xception's features after
block 4 feed a decoder; its maps come back by a graph over scales after block 7, its failures by an attention after block 8.

    L = L_cls + λ₁ · L_r + λ₂ · L_m,   λ₁ = λ₂ = 0.1
    L_r   |x − x̂| over real images
    L_m   real images near each other, far from fakes, at three depths (training/detectors/parts/recce/reconstruction_loss.py)

What differs from the paper: two logits and softmax, as published weights have them in DeepfakeBench; 256 pixels of an aligned
crop instead of 299. The authors' code also keeps the cross-entropy above 0.04 (`flood: 0.04`). What DeepfakeBench does
otherwise: it never adds L_r and L_m (`reconstruction_weight: 0`, `metric_weight: 0`), and holds the learning rate for 10 epochs.

Input 256×256. 23.8 M parameters, 8.0 G multiply-adds per image at that size.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.batch import Batch
from training.config.schema import Config, NonNegative
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.recce.keys import UNUSED_KEYS, recce_keys
from training.detectors.parts.recce.reconstruction import Decoder, MultiScaleGraph, ResidualAttention, resized
from training.detectors.parts.recce.reconstruction_loss import real_cohesion, real_reconstruction
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.networks.weights import State
from training.networks.xception_stages import FEATURES, blocks, build_xception, exit_flow, stem_first, stem_second


class RecceConfig(Config):
    """RECCE's own keys."""

    loss_func: Literal["cross_entropy"] = "cross_entropy"
    reconstruction_weight: NonNegative = Field(0.1, description="λ₁; 0: the reconstruction is left to the other losses")
    metric_weight: NonNegative = Field(0.1, description="λ₂; 0: no metric learning")
    flood: NonNegative = Field(0.0, description="level that the cross-entropy is held at when it is below")
    drop_rate: float = Field(0.2, ge=0, lt=1, description="dropout of features, graph and attention")
    noise_std: NonNegative = Field(1e-6, description="deviation of the noise added to half of the training images")


@register_detector(RecceConfig)
class RecceDetector(Detector):
    """Xception that rebuilds the face half-way and reads the rest in the light of it."""

    card = DetectorCard(
        title="RECCE",
        kind="spatial",
        paper="End-to-End Reconstruction-Classification Learning for Face Forgery Detection",
        year=2022,
        url="https://openaccess.thecvf.com/content/CVPR2022/html/"
        "Cao_End-to-End_Reconstruction-Classification_Learning_for_Face_Forgery_Detection_CVPR_2022_paper.html",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )
    unused_keys = UNUSED_KEYS

    config: RecceConfig

    def __init__(self, config: RecceConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.encoder = build_xception(config, pretrained)
        self.decoder = Decoder()
        self.graph = MultiScaleGraph(dropout=config.drop_rate)
        self.attention = ResidualAttention(dropout=config.drop_rate)
        self.dropout = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(FEATURES, 2)

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        image, net = batch["image"], self.encoder
        seen = self._noisy(image) if self.training else image
        x = blocks(net, stem_second(net, stem_first(net, seen)), 1, 4)  # (B, 728, H/16, W/16)
        painted, coarse, fine = self.decoder(self.dropout(x))
        rebuilt = resized(painted, image)
        embeddings = {f"embedding_{i}": m.mean((2, 3)) for i, m in enumerate((x, coarse, fine))}

        x = blocks(net, x, 5, 7)
        x = blocks(net, x + self.graph(x, coarse, fine), 8, 8)
        x = blocks(net, self.attention(x, image, rebuilt), 9, 12)
        feat = self.dropout(exit_flow(net, x).relu().mean((2, 3)))  # (B, 2048)
        cls = self.head(feat)
        out = {"cls": cls, "prob": fake_probability(cls), "feat": feat}
        return out if inference else {**out, "reconstruction": rebuilt, **embeddings}

    def _noisy(self, image: Tensor) -> Tensor:
        """Return the images, every other one on average with white noise."""
        chosen = torch.rand(len(image), 1, 1, 1, device=image.device) > 0.5
        return image + self.config.noise_std * chosen * torch.randn_like(image)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"real": (batch["label"] == 0).sum()}

    def loss_weights(self) -> dict[str, float]:
        return {"reconstruction": self.config.reconstruction_weight, "metric": self.config.metric_weight}

    def shares(self, parts: Losses) -> Losses:
        flood = self.config.flood
        return {**super().shares(parts), "cls": (parts["cls"] - flood).abs() + flood}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        label, count = batch["label"], batch.get("counts", {}).get("real")
        cls = cross_entropy(prediction["cls"], label)
        rebuilt = real_reconstruction(batch["image"], prediction["reconstruction"], label, count)
        metric = real_cohesion([prediction[f"embedding_{i}"] for i in range(3)], label)
        return self.summed({"cls": cls, "reconstruction": rebuilt, "metric": metric})

    def convert_keys(self, state: State) -> State:
        return recce_keys(state)
