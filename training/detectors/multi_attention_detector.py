"""Multi-attention: several attention maps look at different parts of a face, at its texture and at its meaning.

Zhao et al., "Multi-attentional Deepfake Detection", CVPR 2021. EfficientNet-B4; from its fifth stage come M attention maps.
The second stage's maps, less their local means, run through a dense block: texture, pooled under every map. The last map is
pooled under all together. Both make the decision.

    L = λ₁ · (L_cls + L_augmented) + λ₂ · (L_intra + L_inter),   λ₁ = λ₂ = 1
    L_cls, L_augmented   cross-entropy of the images, and of copies blurred where a map looks (AGDA)
    L_intra, L_inter     regional independence: a region keeps to its running centre, centres keep apart

The two are in training/detectors/parts/multi_attention/ (attention_guided_augmentation.py, regional_independence_loss.py). The
centres are no weights: `training_state` carries them. Their rate α falls by `alpha_decay` an epoch.

What differs from the paper: what it leaves open is as in the authors' code: AGDA's soft gate and noise, L_augmented beside
L_cls, L_inter by M·α, dropout of both features, advprop's ImageNet weights. A batch's regions are compared over all GPUs.
What DeepfakeBench does otherwise (`multi_attention_benchmark.yaml`): its trunk has neither padding in the stem nor activations
after stem and last convolution, and weights of that kind, which load, give the detector the same; for ten epochs the trunk
trains alone with a classifier of its own (`backbone_nEpochs`); it trains on blurred copies only (`AGDA.images: augmented`);
L_inter reaches nothing there (`detached`), and the global feature is not dropped out. Evaluation is always of the whole
detector: during a warm-up its scores say nothing yet.

Input 380×380. 18.6 M parameters, 5.2 G multiply-adds per image at that size; 2.3 G at 256×256.
"""

import logging
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from torch.nn import functional as F

from training.batch import Batch
from training.config.schema import MANY, Config, NonNegative, Pair, Positive, Section
from training.detectors.base import Clock, Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.multi_attention.attention_guided_augmentation import blurred_where_attended
from training.detectors.parts.multi_attention.keys import UNUSED_KEYS, multi_attention_keys
from training.detectors.parts.multi_attention.network import (
    AttentionMaps,
    TextureEnhancement,
    directions,
    global_mean,
)
from training.detectors.parts.multi_attention.regional_independence_loss import (
    inter_region,
    intra_region,
    moved_centers,
)
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.networks.efficientnet import FEATURES, EfficientNetConfig, build_efficientnet, pad_stem
from training.networks.weights import State
from training.ops.gather import gather_rows

log = logging.getLogger("clipdeepfake")

Stage = Literal["b1", "b2", "b3", "b4", "b5", "b6", "b7"]
Dropout = Annotated[float, Field(ge=0, lt=1)]
# Channels of EfficientNet-B4's stages, and by how much their maps are smaller than the image.
_CHANNELS = {"b1": 24, "b2": 32, "b3": 56, "b4": 112, "b5": 160, "b6": 272, "b7": 448}
_STRIDE = {"b1": 2, "b2": 4, "b3": 8, "b4": 16, "b5": 16, "b6": 32, "b7": 32}


class MultiAttentionTrunk(EfficientNetConfig):
    """EfficientNet-B4 as it was designed; DeepfakeBench's weights are of another, see above."""

    stem_padding: bool = Field(True, description="pad the stem as EfficientNet does; DeepfakeBench's weights have none")
    outer_activations: bool = Field(
        True, description="SiLU after the stem and the last convolution; DeepfakeBench's weights have none"
    )


class Regions(Section):
    """The regional independence loss."""

    alpha: float = Field(0.05, gt=0, le=1, description="α, how fast centres follow")
    alpha_decay: float = Field(0.9, gt=0, le=1, description="factor on α after every epoch")
    inter_margin: NonNegative = Field(0.2, description="m_out, how far apart two centres should be")
    intra_margin: Annotated[list[NonNegative], Field(min_length=2, max_length=2)] = Field(
        [0.05, 0.1], description="m_in, how far from its centre a region may be: of a real image, of a fake"
    )
    detached: bool = Field(False, description="true: no gradient through centres, so that L_inter has none")


class MultiAttentionLosses(Section):
    """The losses by the field's names."""

    cls_loss: Literal["cross_entropy"] = "cross_entropy"
    ril_loss: Literal["region_independent_loss"] = "region_independent_loss"
    ril_params: Regions = Field(default_factory=Regions)
    weights: Annotated[list[NonNegative], Field(min_length=2, max_length=2)] = Field([1, 1], description="λ₁, λ₂")


class Agda(Section):
    """Attention-guided data augmentation; each image draws its threshold and zoom between two bounds."""

    images: Literal["original", "both", "augmented"] = Field("both", description="which images losses are of")
    scale_factor: float = Field(0.3, gt=0, le=1, description="size at which an image is blurred")
    kernel_size: int = Field(11, ge=1, le=255, description="of the blur, in pixels, odd")
    sigma: Positive = Field(7.0, description="of the blur, in pixels")
    noise_rate: NonNegative = Field(0.1, description="deviation of the noise, of normalised images")
    threshold: Pair = Field([0.4, 0.6], description="attention, by its maximum, at which half of an image is blurred")
    zoom: Pair = Field([3, 5], description="how steeply the blur sets in there")

    @model_validator(mode="after")
    def _ordered_and_odd(self) -> "Agda":
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size} has no middle; take an odd one")
        for name in ("threshold", "zoom"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is [{low}, {high}]; write two bounds above 0, the lower one first")
        return self


class MultiAttentionConfig(Config):
    """The detector's own keys."""

    pretrained: str | None = Field("tf_efficientnet_b4.ap_in1k", description="a tag of timm, a local file, or null")
    backbone_config: MultiAttentionTrunk = Field(default_factory=MultiAttentionTrunk)
    loss_func: MultiAttentionLosses = MultiAttentionLosses()  # type: ignore[assignment]
    AGDA: Agda = Field(default_factory=Agda)
    feature_layer: Stage = Field("b2", description="stage that texture comes from")
    attention_layer: Stage = Field("b5", description="stage that attention comes from")
    num_attentions: int = Field(4, ge=1, le=MANY, description="M, the number of attention maps")
    mid_dim: int = Field(256, ge=1, le=MANY, description="width of the decision's layers")
    dropout_rate: Dropout = Field(0.25, description="dropout of the regions' texture")
    dropout_rate_final: Dropout = Field(0.5, description="dropout of the global feature")
    backbone_nEpochs: int = Field(0, ge=0, description="epochs at the beginning in which the trunk trains alone")

    @model_validator(mode="after")
    def _something_to_attend_to(self) -> "MultiAttentionConfig":
        least = 2 * _STRIDE[self.attention_layer]
        if self.resolution < least:
            raise ValueError(
                f"resolution {self.resolution} leaves attention maps of {self.attention_layer} nothing but their border; "
                f"take at least {least}"
            )
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "MultiAttentionConfig":
        for name, end in (("nEpochs", self.nEpochs), ("early_stopping", self.early_stopping)):
            if end is not None and self.backbone_nEpochs >= end:
                raise ValueError(
                    f"backbone_nEpochs {self.backbone_nEpochs} leaves nothing of {name} {end} to the whole detector; lower it"
                )
        return self


@register_detector(MultiAttentionConfig)
class MultiAttentionDetector(Detector):
    """EfficientNet-B4 → attention maps; texture and meaning under them → class."""

    card = DetectorCard(
        title="Multi-attention",
        kind="spatial",
        paper="Multi-attentional Deepfake Detection",
        year=2021,
        url="https://arxiv.org/abs/2103.02406",
        parity="DeepfakeBench: outputs",
    )
    # The trunk's own classifier, which files without a warm-up need not have.
    training_only = (r"^head\.",)
    unused_keys = UNUSED_KEYS

    config: MultiAttentionConfig
    centers: Tensor

    def __init__(self, config: MultiAttentionConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        count, width = config.num_attentions, config.mid_dim
        shallow = _CHANNELS[config.feature_layer]
        self.backbone = build_efficientnet(config, pretrained)
        activate_outside(self.backbone, config.backbone_config.outer_activations)
        self.head = nn.Linear(FEATURES, 2).requires_grad_(config.backbone_nEpochs > 0)
        self.attention = AttentionMaps(_CHANNELS[config.attention_layer], count)
        self.texture = TextureEnhancement(shallow)
        self.dropout, self.dropout_final = nn.Dropout(config.dropout_rate), nn.Dropout(config.dropout_rate_final)
        self.local_features = nn.Sequential(
            nn.Linear(count * self.texture.channels, width), nn.Hardswish(), nn.Linear(width, width), nn.Hardswish()
        )
        self.global_features = nn.Sequential(nn.Linear(FEATURES, width), nn.Hardswish())
        self.classifier = nn.Sequential(nn.Linear(2 * width, width), nn.Hardswish(), nn.Linear(width, 2))
        self.register_buffer("centers", torch.zeros(count, shallow), persistent=False)
        self.find_unused_parameters = config.backbone_nEpochs > 0
        self.warming, self.rate = False, config.loss_func.ril_params.alpha
        self._seen: list[Tensor] = []  # each micro-batch's vectors, until the centres follow

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        image = batch["image"]
        if not self.training or inference:
            return self._whole(image)
        if self.warming:
            return self._trunk_alone(image)
        if self.config.AGDA.images == "augmented":
            with torch.no_grad():
                attention = self._whole(image)["attentions"]
            return self._whole(self._augmented(image, attention))
        out = self._whole(image)
        if self.config.AGDA.images == "both":
            out["cls_augmented"] = self._whole(self._augmented(image, out["attentions"]))["cls"]
        return out

    def _whole(self, image: Tensor) -> Prediction:
        config = self.config
        stages, final = stages_and_final(self.backbone, image)  # final (B, 1792, H/32, W/32)
        attention = self.attention(stages[config.attention_layer])  # (B, M, h, w)
        texture, means = self.texture(stages[config.feature_layer], attention.shape[-2:])
        regions = directions(texture, attention).flatten(1)  # (B, M·4C)
        local = self.local_features(self.dropout(regions))
        together = self.dropout_final(global_mean(final, attention))
        # Published weights have learnt with the activation twice.
        whole = F.hardswish(self.global_features(together))
        cls = self.classifier(torch.cat([local, whole], dim=1))  # (B, 2)
        return {**_decision(cls), "feat": final, "attentions": attention, "feature_maps_d": means}

    def _trunk_alone(self, image: Tensor) -> Prediction:
        final = stages_and_final(self.backbone, image)[1]
        return {**_decision(self.head(final.mean((2, 3)))), "feat": final}

    def _augmented(self, image: Tensor, attention: Tensor) -> Tensor:
        asked = self.config.AGDA
        return blurred_where_attended(
            image, attention.detach(), threshold=asked.threshold, zoom=asked.zoom, scale=asked.scale_factor,
            kernel=asked.kernel_size, sigma=asked.sigma, noise=asked.noise_rate,
        )  # fmt: skip

    def loss_weights(self) -> dict[str, float]:
        class_weight, region_weight = self.config.loss_func.weights
        return {"cls": class_weight, "augmented": class_weight, "intra": region_weight, "inter": region_weight}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        label = batch["label"]
        parts = {"cls": cross_entropy(prediction["cls"], label)}
        if "cls_augmented" in prediction:
            parts["augmented"] = cross_entropy(prediction["cls_augmented"], label)
        if "attentions" in prediction:
            parts |= self._independence(batch, prediction)
        return self.summed(parts)

    def _independence(self, batch: Batch, prediction: Prediction) -> Losses:
        asked, own = self.config.loss_func.ril_params, not batch.get("stand_in")
        vectors = directions(prediction["feature_maps_d"], prediction["attentions"])  # (B, M, C)
        known = torch.full_like(batch["label"], own, dtype=torch.bool)
        vectors, label, known = (gather_rows(value, own) for value in (vectors, batch["label"], known))
        centers = moved_centers(self.centers, vectors, self.rate)
        if self.training:
            self._seen.append(vectors.detach()[known])
        if asked.detached:
            centers = centers.detach()
        return {
            "intra": intra_region(vectors, centers, label, asked.intra_margin),
            "inter": inter_region(centers, asked.inter_margin, self.rate),
        }

    def before_step(self, clock: Clock) -> None:
        warm_up, asked = self.config.backbone_nEpochs, self.config.loss_func.ril_params
        warming = clock.epoch < warm_up
        if warming and not self.warming:
            log.info("the trunk trains alone until epoch %d; validation says nothing before", warm_up)
        self.warming, self.rate = warming, asked.alpha * asked.alpha_decay ** max(0, clock.epoch - warm_up)
        self._seen = []

    def after_backward(self, clock: Clock) -> None:
        """Let the centres follow once a step, by the whole batch, however many micro-batches it came in."""
        seen = torch.cat([self.centers[None][:0], *self._seen])
        if len(seen):
            self.centers.copy_(moved_centers(self.centers, seen, self.rate))
        self._seen = []

    def training_state(self) -> dict[str, Any]:
        return {"centers": self.centers.cpu().clone()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        self.centers.copy_(state["centers"])

    def convert_keys(self, state: State) -> State:
        return multi_attention_keys(state)

    def adapt_to(self, state: State) -> None:
        trunk = self.config.backbone_config
        theirs = any(key.startswith("backbone.efficientnet.") for key in state)
        if theirs and (trunk.stem_padding or trunk.outer_activations):
            log.warning(
                "the weights were trained without padding in the stem and without activations after stem and last "
                "convolution: the detector has neither now"
            )
            pad_stem(self.backbone, False)
            activate_outside(self.backbone, False)
            trunk = trunk.model_copy(update={"stem_padding": False, "outer_activations": False})
            self.config = self.config.model_copy(update={"backbone_config": trunk})


def stages_and_final(net: EfficientNet, image: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return the maps after each of the seven stages by name, b1 … b7, and the last one `(B, 1792, H/32, W/32)`."""
    x, stages = net.bn1(net.conv_stem(image)), {}
    for name, stage in zip(_CHANNELS, net.blocks, strict=True):  # type: ignore[arg-type]
        x = stages[name] = stage(x)
    return stages, net.bn2(net.conv_head(x))


def activate_outside(net: EfficientNet, activated: bool) -> None:
    """Let an activation follow the stem and the last convolution, or none as in DeepfakeBench."""
    for norm in (net.bn1, net.bn2):
        norm.act = nn.SiLU(inplace=True) if activated else nn.Identity()


def _decision(cls: Tensor) -> Prediction:
    return {"cls": cls, "prob": fake_probability(cls)}
