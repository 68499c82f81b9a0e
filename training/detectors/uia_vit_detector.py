"""UIA-ViT: a ViT whose patches attend to what has the same origin, taught by labels of whole images alone.

Zhuang et al., "UIA-ViT: Unsupervised Inconsistency-Aware Method based on Vision Transformer for Face Forgery Detection", ECCV
2022. Twice an epoch two Gaussians are fitted to patches between the blocks, one to those of real images, one to the inner ones
of fakes. A patch of a fake that lies nearer to the second is taken for forged. After an epoch on labels alone

    L = L_cls + λ₁ · L_consistency + λ₂ · (1/|c_real| + 1/|c_fake|) + λ₃ · |c_cross|      λ = 0.06, 0.05, 0.5

L_consistency   how far attention between patches (sigmoid of what the softmax of blocks 8 to 12 takes, mean over heads) is from
                c_real between genuine ones, c_fake between forged ones and c_cross between one and the other, all three learnt
assembly        the classifier reads CLS beside the sum of patches, weighed evenly in the first eighth of training and then more
                and more by how much CLS attends to them (`k` and `threshold` of `assembly`); as at the end in evaluation

What differs from the paper: a fixed learning rate, where the authors' code halves it when validation has stalled for long. The
Gaussians are made of sums, not of kept patches; they are the same, and the same on every process. What DeepfakeBench does
otherwise: batches of 64, 10 epochs, weight decay (`uia_vit_benchmark.yaml`). The norm before the Gaussians gets no gradient
in any of these: it is frozen.

Input 224×224. 85.8 M parameters, 17.6 G multiply-adds per image.
"""

import logging
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from training.batch import Batch
from training.config.schema import Config, NonNegative, Positive, Probability, Section
from training.detectors.base import Clock, Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.uia_vit.consistency import patch_consistency, wanted_consistency
from training.detectors.parts.uia_vit.gaussian import Gaussian, Moments
from training.detectors.parts.uia_vit.trunk import build_trunk, walk
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.networks.weights import State, rename
from training.ops.gather import gather_rows

log = logging.getLogger("clipdeepfake")

_PATCH = 16
# The inner patches of a fake, as shares of each side: 3 to 10 of 14.
_INNER = (3 / 14, 11 / 14)
_CLASSES = ("real", "fake")
_TRUNK = r"^(cls_token|pos_embed|patch_embed\.|blocks\.|norm\.)"
_TAG = "vit_base_patch16_224.orig_in21k_ft_in1k"


class UiaLosses(Section):
    """The losses by the field's names."""

    cls_loss: Literal["cross_entropy"] = "cross_entropy"
    pcl_loss: Literal["patch_consistency_loss"] = "patch_consistency_loss"
    weights: list[NonNegative] = Field([0.06, 0.05, 0.5], min_length=3, max_length=3, description="λ₁, λ₂, λ₃")


class Assembly(Section):
    """How the weights of patches go over from even ones to CLS's attention: by 1 − σ(−k · (progress − threshold))."""

    k: Positive = 12.0
    threshold: Probability = 0.7
    even: Probability = Field(0.125, description="share of training before which they are even")


class UiaVitConfig(Config):
    """UIA-ViT's own keys."""

    pretrained: str | None = Field(_TAG, description="a tag of timm, a local file, or null")
    backbone_name: Literal["vit_base_patch16_224", "vit_small_patch16_224", "vit_tiny_patch16_224"] = Field(  # type: ignore[assignment]
        "vit_base_patch16_224", description="of twelve blocks each"
    )
    resolution: int = Field(224, ge=2 * _PATCH, le=8192, multiple_of=_PATCH)
    loss_func: UiaLosses = Field(default_factory=UiaLosses)  # type: ignore[assignment]
    assembly: Assembly = Field(default_factory=Assembly)
    warmup_epochs: NonNegative = Field(1.0, description="epochs on labels alone")
    update_epochs: Positive = Field(0.5, description="epochs between two fits of the Gaussians")
    gaussian_images: int = Field(4, ge=1, description="images of each class that each batch gives to them")

    @model_validator(mode="after")
    def _one_variant(self) -> "UiaVitConfig":
        asked = self.backbone_config
        if (asked.inc, asked.num_classes, asked.dropout) != (3, 2, 0) or (asked.mode or "original") != "original":
            raise ValueError("backbone_config: this detector takes mode original, inc 3, num_classes 2 and dropout 0")
        return self


@register_detector(UiaVitConfig)
class UiaVitDetector(Detector):
    """ViT with consistent attention; CLS and assembled patches → class."""

    card = DetectorCard(
        title="UIA-ViT",
        kind="spatial",
        paper="UIA-ViT: Unsupervised Inconsistency-Aware Method based on Vision Transformer for Face Forgery Detection",
        year=2022,
        url="https://arxiv.org/abs/2210.12752",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )
    training_only = (r"^c_(real|fake|cross)$",)
    find_unused_parameters = True  # the learnt consistencies, in the epoch on labels alone

    config: UiaVitConfig

    def __init__(self, config: UiaVitConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.trunk = build_trunk(config.backbone_name, config.resolution, config.pretrained if pretrained else None)
        width = self.trunk.embed_dim
        self.norm_middle = nn.LayerNorm(width, eps=1e-6).requires_grad_(False)
        self.head = nn.Linear(2 * width, 2)
        self.c_real, self.c_fake, self.c_cross = (nn.Parameter(torch.tensor(value)) for value in (0.6, 0.6, 0.2))
        self.progress, self.warm = 0.0, False
        self.room = dict.fromkeys(_CLASSES, 0)
        self.moments = {name: Moments.none(width) for name in _CLASSES}
        self.gaussians: dict[str, Gaussian] = {}

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        tokens, middle, affinity = walk(self.trunk, batch["image"])
        attention = affinity.sigmoid()  # (B, 1 + N, 1 + N)
        seen, patches = attention[:, 0, 1:], tokens[:, 1:]
        weights = self._assembly(seen) / seen.shape[1]  # (B, N)
        assembled = (weights[:, None].to(patches.dtype) @ patches)[:, 0]
        cls = self.head(torch.cat([tokens[:, 0], assembled], dim=1))
        return {
            "cls": cls,
            "prob": fake_probability(cls),
            "feat": self.norm_middle(middle[:, 1:]),  # (B, N, D)
            "localization": seen.unflatten(1, self.trunk.patch_embed.grid_size)[:, None],  # (B, 1, h, w)
            "attention": attention[:, 1:, 1:],  # (B, N, N)
        }

    def _assembly(self, seen: Tensor) -> Tensor:
        """Return what patches weigh, of CLS's attention `(B, N)` to them."""
        keys, progress = self.config.assembly, self.progress if self.training else 1.0
        if progress < keys.even:
            return torch.ones_like(seen)
        even = torch.sigmoid(torch.tensor(-keys.k * (progress - keys.threshold))).item()
        return even + (1 - even) * seen

    def loss_weights(self) -> dict[str, float]:
        return dict(zip(("consistency", "distinct", "cross"), self.config.loss_func.weights, strict=True))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {name: (batch["label"] == value).sum() for value, name in enumerate(_CLASSES)}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        cls = cross_entropy(prediction["cls"], batch["label"])
        consistency = distinct = cross = cls.new_zeros(())
        if self.training:
            self._collect(batch, prediction["feat"])
        if self.warm and len(self.gaussians) == len(_CLASSES):
            c = (self.c_real, self.c_fake, self.c_cross)
            wanted = wanted_consistency(self.forged(prediction["feat"]), batch["label"], *c)
            consistency = patch_consistency(prediction["attention"], wanted, batch["label"], **batch.get("counts", {}))
            distinct, cross = 1 / self.c_real.abs() + 1 / self.c_fake.abs(), self.c_cross.abs()
        return self.summed({"cls": cls, "consistency": consistency, "distinct": distinct, "cross": cross})

    def forged(self, feat: Tensor) -> Tensor:
        """Return `(B, N)` bool: which patches lie nearer to those of fakes than to those of real images."""
        real, fake = (self.gaussians[name].distance(feat.detach()) for name in _CLASSES)
        return real > fake

    @torch.no_grad()
    def _collect(self, batch: Batch, feat: Tensor) -> None:
        """Add the patches of the global batch's first images of each class to the sums, on every process alike."""
        side = self.trunk.patch_embed.grid_size[0]
        low, high = (round(share * side) for share in _INNER)
        inner = torch.zeros(side, side, dtype=torch.bool, device=feat.device)
        inner[low:high, low:high] = True
        here = not batch.get("stand_in")
        for value, name in enumerate(_CLASSES):
            images = feat.detach().float()[batch["label"] == value][: self.config.gaussian_images if here else 0]
            images = gather_rows(images if name == "real" else images[:, inner.flatten()])[: self.room[name]]
            self.room[name] -= len(images)
            if len(images):
                self.moments[name] = self.moments[name].plus(images.flatten(0, 1))

    def before_step(self, clock: Clock) -> None:
        self.progress = clock.progress
        self.warm = clock.step >= self.config.warmup_epochs * clock.steps_per_epoch
        self.room = dict.fromkeys(_CLASSES, self.config.gaussian_images)

    def after_backward(self, clock: Clock) -> None:
        period = max(1, int(self.config.update_epochs * clock.steps_per_epoch))
        if (clock.step + 1) % period:
            return
        for name in _CLASSES:
            found = Gaussian.of(self.moments[name])
            if found is None:
                log.warning(
                    "step %d: no patches of %s images to fit a Gaussian to; the last one stays", clock.step, name
                )
            else:
                self.gaussians[name] = found
            self.moments[name] = Moments.none(len(self.moments[name].first))

    def training_state(self) -> dict[str, Any]:
        parts = {"moments": self.moments, "gaussians": self.gaussians}
        return {key: {name: value.state() for name, value in part.items()} for key, part in parts.items()}  # type: ignore[attr-defined]

    def load_training_state(self, state: dict[str, Any]) -> None:
        self.moments = {name: Moments(**value) for name, value in state["moments"].items()}
        self.gaussians = {name: Gaussian(**value) for name, value in state["gaussians"].items()}

    def convert_keys(self, state: State) -> State:
        return rename(rename(state, [(r"^model\.", "")]), [(_TRUNK, r"trunk.\1")])
