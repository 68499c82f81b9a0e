"""LRL, local relation learning: how alike are the patches of a face, in colour and in frequency?

Chen et al., "Local Relation Learning for Face Forgery Detection", AAAI 2021. One EfficientNet-B4 sees the image, one what its
high frequencies draw (the iDCT image, `idct`); after three depths both streams are weighed by attention to each other. Their
sums, side by side, are cut into 4×4 patches: the cosines between patches are all that the classifier sees, and a decoder draws
the forged region.

    L = L_cls + λ₁ · L_mask + λ₂ · L_sim
    L_mask  binary cross-entropy of the drawn region
    L_sim   squared distance of the patches' similarities to 1 − |r₁ − r₂|, r being the forged share of a patch

A fake whose mask nobody recorded (`loss.masked.known_masks`) counts in neither of the two. `prepare` derives `idct` where the
batch lacks it, so that training, evaluation and prediction do the same, augmentation included.

λ₁ = λ₂ = 1, 256 pixels and the optimiser are DeepfakeBench's: the paper published no code. What differs from that: the frequency
stream's stem starts from ImageNet's, summed over colours, and is random there; a fake without a mask counts there as one that is
nowhere forged; the decoder's convolutions have biases that nothing can move, since normalisation takes them out: frozen.

Input 256×256; the classifier is tied to the grid of patches. 48.6 M parameters, 10.6 G multiply-adds per image at that size.
"""

from typing import Any

from pydantic import Field, field_validator, model_validator
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from common.errors import ConfigError
from training.batch import Batch
from training.config.schema import Config, NonNegative, Probability
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.lrl.frequency_image import high_frequency_image
from training.detectors.parts.lrl.local_relation import (
    MaskDecoder,
    PatchSimilarity,
    StreamAttention,
    gathered,
    mask_loss,
    similarity_loss,
)
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.loss.masked import known_masks, known_mean
from training.networks.conversion.efficientnet_keys import timm_keys
from training.networks.efficientnet import FEATURES, EfficientNetConfig, build_efficientnet
from training.networks.weights import State, rename

# Channels after each of the three depths, and the stage of the trunk that the next one begins with.
DEPTHS = (56, 160, FEATURES)
SECOND, THIRD = 3, 5
HIDDEN = 128


class LrlConfig(Config):
    """LRL's own keys."""

    backbone_config: EfficientNetConfig = Field(default_factory=EfficientNetConfig)
    with_mask: bool = True
    mask_weight: NonNegative = Field(1.0, description="λ₁, the weight of the drawn region; 0: none is drawn")
    similarity_weight: NonNegative = Field(1.0, description="λ₂, the weight of the patches' similarities")
    patch: int = Field(2, ge=1, le=64, description="side of a patch on the last map, which is resolution / 32 large")
    drop_rate: Probability = Field(0.2, description="dropout of the classifier")

    @field_validator("dataset_type", mode="before")
    @classmethod
    def _frames_are_enough(cls, value: Any) -> Any:
        return None if value == "lrl" else value  # the field's recipe derives `idct`, as `prepare` does here

    @model_validator(mode="after")
    def _masks_are_read(self) -> "LrlConfig":
        if not self.with_mask and (self.mask_weight or self.similarity_weight):
            raise ValueError(
                "lrl learns from masks and needs with_mask: true; without masks set mask_weight and similarity_weight to 0"
            )
        return self


@register_detector(LrlConfig)
class LrlDetector(Detector):
    """Colour and frequency EfficientNets that attend to each other, similarities of patches, and a mask."""

    card = DetectorCard(
        title="LRL",
        kind="frequency",
        paper="Local Relation Learning for Face Forgery Detection",
        year=2021,
        url="https://arxiv.org/abs/2105.02577",
        parity="DeepfakeBench: outputs",
    )
    unused_keys = (r"^encoder_(rgb|idct)\.last_layer\.",)

    config: LrlConfig

    def __init__(self, config: LrlConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        grid = patch_grid(config)
        self.encoder_rgb = build_efficientnet(config, pretrained)
        self.encoder_idct = build_efficientnet(one_channel(config), pretrained)
        self.attention = nn.ModuleList(StreamAttention(channels) for channels in DEPTHS)
        self.similarity = PatchSimilarity(grid, config.patch)
        self.decoder = MaskDecoder(sum(DEPTHS))
        if not config.mask_weight:
            self.decoder.requires_grad_(False)
        self.hidden = nn.Linear(grid**2 * (grid**2 - 1), HIDDEN)
        self.dropout = nn.Dropout(config.drop_rate)
        self.head = nn.Linear(HIDDEN, 2)

    def prepare(self, batch: Batch) -> Batch:
        ready = super().prepare(batch)
        if "image" in ready and "idct" not in ready:
            ready["idct"] = self.frequencies(ready["image"])
        return ready

    def frequencies(self, image: Tensor) -> Tensor:
        """Return what the high frequencies of normalised images `(B, 3, H, W)` draw, `(B, 1, H, W)` of the same type."""
        return high_frequency_image(image.float() * self.std + self.mean).to(image.dtype)

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        image = batch["image"]
        idct = batch["idct"] if "idct" in batch else self.frequencies(image)
        feat = self.features(image, idct)  # (B, 2008, H/32, W/32)
        pattern, similarity = self.similarity(feat)
        cls = self.head(self.dropout(self.hidden(pattern).relu()))
        logit = self.decoder(feat, (image.shape[-2], image.shape[-1]))  # (B, 1, H, W)
        out = {"cls": cls, "prob": fake_probability(cls), "feat": feat}
        return {**out, "mask_logit": logit, "mask_pred": logit.sigmoid(), "sim": similarity}

    def features(self, image: Tensor, idct: Tensor) -> Tensor:
        """Return what both streams see at three depths, on the last one's places."""
        x, y = image, idct
        depths = []
        for part, attention in enumerate(self.attention):
            x, y = attention(depth(self.encoder_rgb, x, part), depth(self.encoder_idct, y, part))
            depths.append(x + y)
        return gathered(*depths)

    def loss_weights(self) -> dict[str, float]:
        return {"mask": self.config.mask_weight, "similarity": self.config.similarity_weight}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        if not (self.config.mask_weight or self.config.similarity_weight):
            return {}
        return {"mask": known_masks(batch["mask"], batch["label"]).sum()}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        losses = {"cls": cross_entropy(prediction["cls"], batch["label"])}
        each = {}
        if self.config.mask_weight:
            each["mask"] = mask_loss(prediction["mask_logit"], batch["mask"])
        if self.config.similarity_weight:
            each["similarity"] = similarity_loss(prediction["sim"], batch["mask"])
        if each:
            known, count = known_masks(batch["mask"], batch["label"]), batch.get("counts", {}).get("mask")
            losses |= {name: known_mean(value, known, count) for name, value in each.items()}
        return self.summed(losses)

    def convert_keys(self, state: State) -> State:
        ours = rename(
            state,
            [
                (r"^(encoder_rgb|encoder_idct)\.efficientnet\.", r"\1."),
                *((rf"^rfam{i + 1}\.attention\.", f"attention.{i}.weigh.") for i in range(3)),
                # The field counts the decoder's stages from its end, and what follows each from its beginning.
                *((rf"^decoder\.decoder_stages\.{3 - i}\.layer\.1\.", f"decoder.widen.{i}.") for i in range(4)),
                (r"^decoder\.bottlenecks\.(\d)\.seq\.0\.", r"decoder.refine.\1."),
                (r"^final\.", "decoder.logit."),
                (r"^overall_classifier\.0\.", "hidden."),
                (r"^overall_classifier\.3\.", "head."),
            ],
        )
        return timm_keys(ours)


def depth(net: EfficientNet, x: Tensor, part: int) -> Tensor:
    """Return the map after the trunk's first, second or last part (0, 1, 2), from the one before it."""
    if part == 0:
        return net.blocks[:SECOND](net.bn1(net.conv_stem(x)))
    if part == 1:
        return net.blocks[SECOND:THIRD](x)
    return net.bn2(net.conv_head(net.blocks[THIRD:](x)))


def one_channel(config: LrlConfig) -> LrlConfig:
    """Return the configuration of the trunk that sees one channel."""
    return config.model_copy(update={"backbone_config": config.backbone_config.model_copy(update={"inc": 1})})


def patch_grid(config: LrlConfig) -> int:
    """Return how many patches lie side by side on the last map.

    Raises:
        ConfigError: less than two, so that there is nothing to compare, or some places would be left over.
    """
    side = -(-config.resolution // 32)
    grid = side // config.patch
    if grid < 2 or side % config.patch:
        raise ConfigError(
            f"patch {config.patch} does not cut the last map, {side}×{side} at resolution {config.resolution}, into at least "
            "2×2 whole patches; set `patch` to a divisor of that side, at most half of it, or raise `resolution`"
        )
    return grid
