"""SLADD: forgeries that are made to be hard, by a synthesiser that learns against the detector.

Chen et al., "Self-supervised Learning of Adversarial Example: Towards Good Generalizations for Deepfake Detection", CVPR 2022.
A synthesiser looks at a real face and a reference, and chooses region, blending (alpha, Poisson, mixup, or none) and mixup's
ratio; the face is forged accordingly. The detector tells real from fake, and learns from the choices three more things:

    L = L_cls + 0.1 · L_map + 0.05 · L_type + 0.1 · L_mag                        the detector lowers it
        L_cls, L_type    additive-margin softmax, m = 0.45, s = 30, of the class; of the blending, "none", or "somebody else's"
        L_map            squared error of the forged region after the middle flow's seventh block
        L_mag            squared error of mixup's ratio, where that was blended by
    L_syn = mean(−log p · L) − 1e-5 · entropy                                    the synthesiser lowers it (REINFORCE)

so that choices which the detector fails on become likelier. The two have an optimiser each (`adversary_groups`). Every picture is
also seen mirrored. Inference is the plain network. Pairs come from the recipe `sladd`
(training/dataset/recipes/sladd_recipe.py), whose uniform numbers draw the choices: they depend on no process.

What differs from the paper's code: a choice is rewarded by its own picture's loss, not by the mean of the batch that one process
holds (`reward: batch`); fakes, for which nothing is chosen, teach no policy; L_mag compares each picture with its own ratio,
where a missing axis compares it with all; a fake without a recorded mask counts in no L_map; Poisson blending runs on the device
(conjugate gradients); the synthesiser's first layer begins with ImageNet's kernels over both pictures. What DeepfakeBench does
otherwise: cross-entropy of the class and a margin of 0.5, real and fake partners that swap roles at random, an augmented input,
a smaller β₁ for the synthesiser: `sladd_benchmark.yaml`.

Input 256×256. 20.8 M parameters and 20.8 M of the synthesiser, 6.0 G multiply-adds per image; 18 G per target in training.
"""

from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import ConfigError
from training.batch import Batch
from training.config.schema import Config, NonNegative, Positive
from training.detectors.base import ADVERSARY, Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.sladd import (
    MIXUP,
    ORIGINAL_FORGERY,
    POISSON,
    UNTOUCHED,
    RegionMap,
    Synthesizer,
    choose,
    forge,
    region_masks,
)
from training.detectors.registry import register_detector
from training.loss.additive_margin import am_softmax
from training.loss.classification import fake_probability
from training.loss.masked import known_masks, known_mean
from training.networks.conversion.xception_keys import UNUSED_KEYS, head_keys
from training.networks.weights import State, rename
from training.networks.xception_stages import (
    FEATURES,
    MIDDLE,
    Head,
    blocks,
    build_xception,
    exit_flow,
    stem_first,
    stem_second,
)

_THEIRS = r"^synthesizer\.netG\.model\."
_RULES = [
    (r"^backbone\.type_fc\.", "type_head."),
    (r"^backbone\.mag_fc\.", "magnitude_head."),
    (r"^backbone\.map\.c\.", "region_map."),
    (_THEIRS + r"iniconv\.", "synthesizer.trunk.conv1."),
    (_THEIRS + r"fc_region\.1\.", "synthesizer.region."),
    (_THEIRS + r"fc_type\.1\.", "synthesizer.blending."),
    (_THEIRS + r"fc_mag\.1\.", "synthesizer.ratio."),
    (_THEIRS + r"(.+)\.c\.", r"synthesizer.trunk.\1.conv1."),
    (_THEIRS, "synthesizer.trunk."),
]


class SladdConfig(Config):
    """SLADD's own keys."""

    dataset_type: str | None = "sladd"
    loss_func: Literal["am_softmax", "cross_entropy"] = Field("am_softmax", description="of the class")
    typeloss_func: Literal["am_softmax"] = "am_softmax"
    margin: NonNegative = Field(0.45, description="m of both")
    scale: Positive = Field(30.0, description="s of both")
    map_weight: NonNegative = 0.1
    type_weight: NonNegative = 0.05
    magnitude_weight: NonNegative = 0.1
    reward: Literal["sample", "batch"] = Field(
        "sample", description="whose loss rewards a choice: its own, the batch's"
    )
    entropy_weight: NonNegative = Field(1e-5, description="of the choices, in the synthesiser's loss")
    synthesizer_lr: Positive = Field(0.25, description="the synthesiser's learning rate, as a share of the detector's")
    synthesizer_beta1: float | None = Field(None, ge=0, lt=1, description="its Adam's β₁; null: the detector's")
    synthesizer_dropout: float = Field(0.5, ge=0, lt=1, description="before its three heads")

    @field_validator("dataset_type", mode="before")
    @classmethod
    def _its_own_pairs(cls, value: Any) -> Any:
        """Take DeepfakeBench's `pair`, whose pairs it forges while the network computes."""
        return "sladd" if value == "pair" else value


@register_detector(SladdConfig)
class SladdDetector(Detector):
    """Xception that learns what was forged, and how, from whoever forges against it."""

    card = DetectorCard(
        title="SLADD",
        kind="spatial",
        paper="Self-supervised Learning of Adversarial Example: Towards Good Generalizations for Deepfake Detection",
        year=2022,
        url="https://arxiv.org/abs/2203.12208",
        parity="DeepfakeBench: outputs",
    )
    training_only = (r"^(synthesizer|type_head|magnitude_head|region_map)\.",)
    unused_keys = UNUSED_KEYS

    config: SladdConfig

    def __init__(self, config: SladdConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_xception(config, pretrained)
        self.head = Head(config)
        self.type_head = nn.Linear(FEATURES, ORIGINAL_FORGERY + 1)
        self.magnitude_head = nn.Linear(FEATURES, 1)
        self.region_map = RegionMap(MIDDLE)
        self.synthesizer = Synthesizer(config, pretrained, config.synthesizer_dropout)

    def prepare(self, batch: Batch) -> Batch:
        ready = super().prepare(batch)
        for key in ("reference", "source"):
            if key in ready and ready[key].dtype == torch.uint8:
                ready[key] = (ready[key].float() - self.mean) / self.std
        return ready

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        forgery = {} if inference or "source" not in batch else self._forge(batch)
        image = torch.cat([forgery["forged"], forgery["forged"].flip(3)]) if forgery else batch["image"]
        x = stem_second(self.backbone, stem_first(self.backbone, image))
        middle = blocks(self.backbone, x, 1, 7)  # (B, 728, H/16, W/16)
        feat = exit_flow(self.backbone, blocks(self.backbone, middle, 8, 12))  # (B, 2048, H/32, W/32)
        pooled = feat.relu().mean((2, 3))
        cls = self.head(pooled)
        answer = {"cls": cls, "prob": fake_probability(cls), "feat": feat}
        if not forgery:
            return answer
        told = {"type": self.type_head(pooled), "magnitude": self.magnitude_head(pooled)[:, 0]}
        return {**answer, **told, "map": self.region_map(middle), **forgery}  # of 2B pictures, and what was done to B

    def _forge(self, batch: Batch) -> Prediction:
        """Forge real targets as the synthesiser chooses; return pictures, labels, regions, and how likely the choices were."""
        region, blending, ratio = self.synthesizer(batch["image"], batch["reference"])
        chosen = choose(region, blending, ratio, batch["chance"])
        with torch.no_grad():
            label, alpha = batch["label"], region_masks(batch["parts"], chosen.region)
            alpha = torch.where((chosen.blending == POISSON)[:, None, None, None], (alpha >= 0.5).float(), alpha)
            forging = (label == 0) & (chosen.blending != UNTOUCHED) & alpha.flatten(1).any(dim=1)
            rows = forging[:, None, None, None]
            made = forge(batch["image"], batch["source"], alpha, chosen.blending, chosen.ratio)
            kind = torch.where(label == 0, UNTOUCHED, ORIGINAL_FORGERY)
        return {
            "forged": torch.where(rows & (alpha > 0), self._eight_bits(made), batch["image"]),
            "label": torch.where(forging, 1, label),
            "type_label": torch.where(forging, chosen.blending, kind),
            "ratio": chosen.ratio,
            "region": torch.where(
                rows, alpha, (batch["mask"] > 0).float() * label[:, None, None, None]
            ),  # (B, 1, H, W)
            "log_prob": chosen.log_prob,
            "entropy": chosen.entropy,
        }

    def _eight_bits(self, image: Tensor) -> Tensor:
        """Round normalised images to what a picture can hold, so that no forgery is known by its fractions."""
        return ((image * self.std + self.mean).round().clamp(0, 255) - self.mean) / self.std

    def loss_weights(self) -> dict[str, float]:
        c = self.config
        return {"map": c.map_weight, "type": c.type_weight, "magnitude": c.magnitude_weight}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        if "mask" not in batch:
            return {}
        return {"map": known_masks(batch["mask"], batch["label"]).sum(), "real": (batch["label"] == 0).sum()}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        if "forged" not in prediction:
            raise ConfigError("sladd learns from faces that it forges itself; set `dataset_type: sladd`")
        counts, each = batch.get("counts", {}), self._losses_each(prediction)
        known, real = known_masks(batch["mask"], batch["label"]), batch["label"] == 0
        parts = {name: value.mean() for name, value in each.items()}
        parts["map"] = known_mean(each["map"], known, counts.get("map"))
        shares = self.shares({**each, "map": torch.where(known, each["map"], 0.0)})
        reward = torch.stack([*shares.values()]).sum(dim=0).detach()  # (B,)
        if self.config.reward == "batch":
            reward = reward.mean().expand_as(reward)
        policy = -prediction["log_prob"] * reward - self.config.entropy_weight * prediction["entropy"]
        return {**self.summed(parts), ADVERSARY: known_mean(policy, real, counts.get("real"))}

    def _losses_each(self, prediction: Prediction) -> Losses:
        """Return each term for every target `(B,)`, the mean over it and its mirror image."""
        margin, scale = self.config.margin, self.config.scale
        label, kind = (prediction[key].repeat(2) for key in ("label", "type_label"))
        region = torch.cat([prediction["region"], prediction["region"].flip(3)])
        height, width = prediction["map"].shape[-2:]
        wanted = F.adaptive_avg_pool2d(region, (height, width))  # (2B, 1, h, w)
        if self.config.loss_func == "am_softmax":
            cls = am_softmax(prediction["cls"], label, margin, scale, reduction="none")
        else:
            cls = F.cross_entropy(prediction["cls"].float(), label, reduction="none")
        terms = {
            "cls": cls,
            "map": (prediction["map"] - wanted).square().mean((1, 2, 3)),
            "type": am_softmax(prediction["type"], kind, margin, scale, reduction="none"),
            "magnitude": (prediction["magnitude"].float() - prediction["ratio"].repeat(2)).square() * (kind == MIXUP),
        }
        return {name: value.view(2, -1).mean(dim=0) for name, value in terms.items()}

    def adversary_groups(self, config: Config) -> list[dict[str, Any]]:
        settings = getattr(config.optimizer, config.optimizer.type)
        group = {"params": [*self.synthesizer.parameters()], "lr": settings.lr * self.config.synthesizer_lr}
        if self.config.synthesizer_beta1 is not None and config.optimizer.type in ("adam", "adamw"):
            group["betas"] = (self.config.synthesizer_beta1, settings.beta2)
        return [group]

    def convert_keys(self, state: State) -> State:
        return rename(head_keys(state), _RULES)
