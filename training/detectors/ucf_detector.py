"""UCF: what all forgeries have in common, parted from what is one method's own and from what the picture shows.

Yan et al., "UCF: Uncovering Common Features for Generalizable Deepfake Detection", ICCV 2023. One encoder reads the fingerprint,
which is split into a common and a specific half; another reads the content; a decoder that is conditioned on the fingerprint
puts any fingerprint and any content of a real|fake pair together again. Prediction needs the common half alone.

    L = L_common + 0.1 · L_specific + 0.3 · L_rec + 0.05 · L_con
    L_common, L_specific   cross-entropy over real/fake and over the methods of manipulation
    L_rec   |x − x̂| with the image's own fingerprint and with its partner's, each summed over the real and the fake half
    L_con   triplets with margin 3 in the common features (by class) and in the specific ones (by method)

DeepfakeBench is the authors' own code; what it does otherwise is in its data: any real video stands beside a fake one
(`recipe.partner: any`), and the specific classes are the training datasets. Kept from it: with probability 0.7 the common
halves are shuffled among images of a class before anything is made of them, and a fifth of the logits is dropped in training.

Input 256×256. 46.8 M parameters, of which prediction uses 22.3 M; 6.0 G multiply-adds per image at that size.
"""

import logging
from typing import Any, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from training.batch import Batch
from training.config.schema import BackboneConfig, Config, NonNegative, Probability, Section
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.ucf.contrastive_loss import paired_contrast, shuffle_within
from training.detectors.parts.ucf.decoder import ConditionalDecoder
from training.detectors.parts.ucf.keys import UNUSED_KEYS, ucf_keys
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.networks.weights import State
from training.networks.xception_stages import (
    adjust_channel,
    blocks,
    build_xception,
    exit_flow,
    middle_size,
    stem_first,
    stem_second,
)

log = logging.getLogger("clipdeepfake")

_WIDTH = 512
# Real, and FaceForensics++'s four methods: what published weights were trained on.
_PUBLISHED_CLASSES = 5


class UcfBackbone(BackboneConfig):
    """The trunk's variant."""

    mode: Literal["adjust_channel"] = "adjust_channel"


class UcfLosses(Section):
    """The four losses by the field's names."""

    cls_loss: Literal["cross_entropy"] = "cross_entropy"
    spe_loss: Literal["cross_entropy"] = "cross_entropy"
    con_loss: Literal["contrastive_regularization"] = "contrastive_regularization"
    rec_loss: Literal["l1loss"] = "l1loss"


class UcfConfig(Config):
    """UCF's own keys."""

    dataset_type: str | None = "pairs"
    backbone_config: UcfBackbone = Field(default_factory=UcfBackbone)
    encoder_feat_dim: Literal[512] = Field(512, description="channels of each encoder's map")
    loss_func: UcfLosses = Field(default_factory=UcfLosses)  # type: ignore[assignment]
    specific_weight: NonNegative = 0.1
    reconstruction_weight: NonNegative = 0.3
    contrastive_weight: NonNegative = 0.05
    margin: NonNegative = Field(3.0, description="of the contrastive loss")
    shuffle_prob: Probability = Field(0.7, description="how often common features change places within their class")
    drop_rate: float = Field(0.2, ge=0, lt=1, description="share of the logits dropped in training")
    specific_classes: int | None = Field(
        None, ge=2, description="classes of the specific head; null: real and the manipulations of the training data"
    )

    @model_validator(mode="after")
    def _maps_have_statistics(self) -> "UcfConfig":
        if middle_size(self.resolution) <= 2:
            raise ValueError(
                f"at resolution {self.resolution} the encoders' maps are one place each, whose deviation the decoder needs; "
                "take 48 or more"
            )
        return self

    @field_validator("label_dict", mode="before")
    @classmethod
    def _methods_are_fakes(cls, value: Any) -> Any:
        """Take DeepfakeBench's file, which numbers the methods there; here their names tell them apart."""
        return {name: int(label > 0) for name, label in value.items()} if isinstance(value, dict) else value


class Encoder(nn.Module):
    """Xception, its last map reduced to 512 channels."""

    def __init__(self, config: Config, pretrained: bool):
        super().__init__()
        self.trunk = build_xception(config, pretrained, mode="adjust_channel")
        self.adjust = adjust_channel()

    def forward(self, image: Tensor) -> Tensor:
        """Return `(B, 512, H/32, W/32)`."""
        x = stem_second(self.trunk, stem_first(self.trunk, image))
        return self.adjust(exit_flow(self.trunk, blocks(self.trunk, x, 1, 12)))


class FingerprintHead(nn.Module):
    """Pooled half of the fingerprint → logits."""

    def __init__(self, channels: int, hidden: int, classes: int, dropout: float):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.LeakyReLU(inplace=True), nn.Linear(hidden, classes))
        self.dropout = nn.Dropout(dropout)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return `(B, classes)` of `(B, C)`."""
        return self.dropout(self.mlp(pooled))


def projection(channels: int, width: int) -> nn.Sequential:
    """Return three 1×1 convolutions that read one half of the fingerprint."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 1),
        nn.LeakyReLU(inplace=True),
        nn.Conv2d(width, width, 1),
        nn.LeakyReLU(inplace=True),
        nn.Conv2d(width, width, 1),
    )


@register_detector(UcfConfig)
class UcfDetector(Detector):
    """Fingerprint (common and specific) and content, taken apart and put together again."""

    card = DetectorCard(
        title="UCF",
        kind="spatial",
        paper="UCF: Uncovering Common Features for Generalizable Deepfake Detection",
        year=2023,
        url="https://arxiv.org/abs/2304.13949",
        parity="DeepfakeBench: outputs, losses and gradient norm",
    )
    training_only = (r"^content\.", r"^decoder\.", r"^specific\.", r"^specific_head\.")
    unused_keys = UNUSED_KEYS

    config: UcfConfig

    def __init__(self, config: UcfConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        known = data_info.num_manipulations + 1 if data_info is not None else _PUBLISHED_CLASSES
        self.forgery = Encoder(config, pretrained)
        self.content = Encoder(config, pretrained)
        self.common, self.specific = projection(_WIDTH, _WIDTH // 2), projection(_WIDTH, _WIDTH // 2)
        self.common_head = self._head(2)
        self.classes = config.specific_classes or max(2, known)
        self.specific_head = self._head(self.classes)
        self.decoder = ConditionalDecoder(_WIDTH)

    def _head(self, classes: int) -> FingerprintHead:
        return FingerprintHead(_WIDTH // 2, _WIDTH, classes, self.config.drop_rate)

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        image = batch["image"]
        fingerprint = self.forgery(image)  # (B, 512, h, w)
        common = self.common(fingerprint)  # (B, 256, h, w)
        out: Prediction = {}
        if not inference:
            if self.training:
                common = self._shuffled_within_class(common, batch["label"])
            out = self._disentangled(image, common, self.specific(fingerprint))
        feat = common.mean((2, 3))
        cls = self.common_head(feat)
        return {"cls": cls, "prob": fake_probability(cls), "feat": feat, **out}

    def _shuffled_within_class(self, common: Tensor, label: Tensor) -> Tensor:
        """Return the common features, now and then in another order within each class."""
        chosen = torch.rand((), device=label.device) < self.config.shuffle_prob
        stay = torch.arange(len(label), device=label.device)
        return common[torch.where(chosen, shuffle_within(label), stay)]

    def _disentangled(self, image: Tensor, common: Tensor, specific: Tensor) -> Prediction:
        """Return what training adds: the specific head's answer, and images from own and from swapped fingerprints."""
        fingerprint, content = torch.cat([specific, common], dim=1), self.content(image)
        swapped = torch.cat(fingerprint.chunk(2)[::-1])
        size = (image.shape[2], image.shape[3])
        feat = specific.mean((2, 3))
        return {
            "cls_spe": self.specific_head(feat),
            "feat_spe": feat,
            "self_reconstruction": self.decoder(fingerprint, content, size),
            "cross_reconstruction": self.decoder(swapped, content, size),
        }

    def loss_weights(self) -> dict[str, float]:
        return {
            "specific": self.config.specific_weight,
            "reconstruction": self.config.reconstruction_weight,
            "contrastive": self.config.contrastive_weight,
        }

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        config, label, method = self.config, batch["label"], batch["method"]
        common = cross_entropy(prediction["cls"], label)
        specific = cross_entropy(prediction["cls_spe"], method)
        # Halves are equal in size: twice the mean over both is the sum of their means.
        rebuilt = (prediction["self_reconstruction"], prediction["cross_reconstruction"])
        reconstruction = 2 * torch.stack([F.l1_loss(x.float(), batch["image"]) for x in rebuilt]).sum()
        contrastive = paired_contrast(prediction["feat"], label, config.margin)
        contrastive = contrastive + paired_contrast(prediction["feat_spe"], method, config.margin)
        parts = {"common": common, "specific": specific, "reconstruction": reconstruction, "contrastive": contrastive}
        return self.summed(parts)

    def convert_keys(self, state: State) -> State:
        return ucf_keys(state)

    def adapt_to(self, state: State) -> None:
        last = self.convert_keys(dict(state)).get("specific_head.mlp.2.weight")
        if last is not None and len(last) != self.classes:
            log.warning(
                "the weights know %d kinds of images, and so does the detector now, not %d", len(last), self.classes
            )
            self.classes = len(last)
            self.specific_head = self._head(self.classes)
