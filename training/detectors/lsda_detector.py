"""LSDA: forgeries that nobody made, from the features of those that were.

Yan, Luo, Lyu, Liu & Wu, "Transcending Forgery Specificity with Latent Space Augmentation for Generalizable Deepfake Detection",
CVPR 2024. Every kind of forgery has a teacher of its own, real faces have ArcFace's trunk, and a head must tell from their
maps which domain a face is of. The teachers' maps are then changed within their domain and mixed across domains
(parts/lsda/augmentation.py), a fusion makes one map of both, and a student, whose head says real or fake, must come to the
same maps: on fakes to the fused ones, on real faces to ArcFace's. The student alone predicts.

    L = 0.5 · cross-entropy (real or fake) + cross-entropy (domain) + (mean squared distance of the student's maps on
        real faces + that on fakes) [+ w · how near ArcFace sees fakes that keep the face to it, less how near others]

A batch is made of groups (`dataset_type: lsda`): a real face and a fake of it of every kind, role by role. Teachers and fusion
learn from the distillation too. Centres and farthest maps of a domain are those of the batch over all processes.

What differs from the paper: its code's numbers stand where it names none (range of rotation, Beta's α, one random frame of a
video an epoch). What DeepfakeBench does otherwise (`lsda_benchmark.yaml`): ArcFace's trunk begins at random, its first three
stages staying so (here it all trains unless `real_pretrained` names weights); the bracketed term, which the paper does not
have; no affine steps but differences; and its centres and farthest "maps" are over channels, each taken for a sample. Its
answer's `feat` is the probability, and so is it here; `student` are the features.

Input 256×256. 150.3 M parameters with four teachers, of which prediction uses 18.7 M; 2.0 G multiply-adds per image at that size.
"""

import logging
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from common.datasets import labels_of, labels_that_keep_the_face
from common.errors import ConfigError, DataError
from training.batch import Batch
from training.config.schema import Config, NonNegative, Pair, Section
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.lsda.augmentation import Chances, Limits, Transform, across_domains, within_domain
from training.detectors.parts.lsda.encoder import EFFICIENTNET, WIDTH, Encoder, RealEncoder
from training.detectors.parts.lsda.keys import UNUSED_KEYS, lsda_keys, teachers_in
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.networks.efficientnet import EfficientNetConfig
from training.networks.iresnet import DEPTHS, load_arcface
from training.networks.weights import State
from training.ops.gather import gather_rows

log = logging.getLogger("clipdeepfake")

# What published weights were trained on, and its kinds of fakes.
_PUBLISHED_DATASET, _PUBLISHED_DOMAINS = "FaceForensics++", 4
_ARCFACE = ("iresnet18", "iresnet34", "iresnet50", "iresnet100")


class LsdaBackbone(EfficientNetConfig):
    """EfficientNet-B4 as its authors pad it."""

    stem_padding: bool = True


class LatentConfig(Section):
    """How features are augmented."""

    transforms: Annotated[list[Transform], Field(min_length=1)] = Field(
        ["centrifugal", "hard", "affine", "additive"], description="steps within a domain, of which each map takes one"
    )
    degrees: float = Field(30.0, ge=0, le=180, description="largest rotation of `affine`")
    scale: Pair = Field([0.8, 1.25], description="limits of its scale")
    alpha: Pair = Field([0.5, 2.0], description="limits of α in Beta(α, α), the shares of mixed domains")

    @model_validator(mode="after")
    def _above_zero(self) -> "LatentConfig":
        if min(*self.scale, *self.alpha) <= 0:
            raise ValueError("scale and alpha must be above 0")
        return self

    def limits(self) -> Limits:
        """Return them as the augmentation takes them."""
        (low, high), (least, most) = self.scale, self.alpha
        return Limits(tuple(self.transforms), self.degrees, (low, high), (least, most))


class LsdaConfig(Config):
    """LSDA's own keys."""

    dataset_type: str | None = "lsda"
    backbone_config: LsdaBackbone = Field(default_factory=LsdaBackbone)
    teacher: str = Field(EFFICIENTNET, description="trunk of each kind's encoder: efficientnetb4, xception, or timm's")
    student: str = Field(EFFICIENTNET, description="the student's trunk, in the same way")
    real_encoder: str | None = Field(
        None, description="real faces' encoder: iresnet18 … iresnet100 (null), or a trunk as the teachers'"
    )
    real_pretrained: str | None = Field(
        "backbone.pth",
        description="ArcFace weights of an iresnet, a path or a name in training/pretrained/; null: random",
    )
    real_frozen: int = Field(3, ge=0, le=4, description="stages that stay as `real_pretrained` has them")
    domains: int | None = Field(None, ge=1, description="kinds of fakes; null: those of the training data")
    latent: LatentConfig = Field(default_factory=LatentConfig)
    cls_weight: NonNegative = 0.5
    domain_weight: NonNegative = 1.0
    distillation_weight: NonNegative = 1.0
    real_weight: NonNegative = Field(0.0, description="of `real`, which only DeepfakeBench has; 0: it is left out")
    keeps_identity: list[str] = Field(
        list(labels_that_keep_the_face(_PUBLISHED_DATASET)),
        description="labels of fakes that keep the face, whom `real` draws to real faces",
    )
    loss_func: Literal["cross_entropy"] = "cross_entropy"

    @model_validator(mode="after")
    def _one_file_for_all_trunks(self) -> "LsdaConfig":
        trunks = {self.teacher, self.student}
        if self.real_encoder not in (None, *_ARCFACE):
            trunks.add(str(self.real_encoder))
        if self.pretrained and len(trunks) > 1:
            raise ValueError(
                f"`pretrained` cannot be of several trunks at once ({', '.join(sorted(trunks))}); name one, or write null"
            )
        return self


@register_detector(LsdaConfig)
class LsdaDetector(Detector):
    """Teachers, latent augmentation, and the student that predicts."""

    card = DetectorCard(
        title="LSDA",
        kind="spatial",
        paper="Transcending Forgery Specificity with Latent Space Augmentation for Generalizable Deepfake Detection",
        year=2024,
        url="https://arxiv.org/abs/2311.11278",
        parity="DeepfakeBench: outputs",
    )
    training_only = (r"^teachers\.", r"^real\.", r"^fusion\.", r"^domain_head\.")
    unused_keys = UNUSED_KEYS

    config: LsdaConfig

    def __init__(self, config: LsdaConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        known = data_info.num_manipulations if data_info is not None else _PUBLISHED_DOMAINS
        self.limits = config.latent.limits()
        self.real = self._real_encoder(pretrained)
        self._meet(config.domains or max(1, known), pretrained)
        self.student = Encoder(config.student, config, pretrained, "student")
        layers: list[nn.Module] = []
        for inputs, size in ((2 * WIDTH, 1), (WIDTH, 3), (WIDTH, 3)):
            layers += [nn.Conv2d(inputs, WIDTH, size, padding=size // 2), nn.LeakyReLU()]
        self.fusion = nn.Sequential(*layers)
        self.head = head(WIDTH, 2)
        self.keeping = self._labels_that_keep(data_info)

    def _real_encoder(self, pretrained: bool) -> nn.Module:
        config = self.config
        name = config.real_encoder or "iresnet100"
        if name not in _ARCFACE:
            return Encoder(name, config, pretrained, "real_encoder")
        encoder = RealEncoder(DEPTHS[name], frozen=config.real_frozen if config.real_pretrained else 0)
        if pretrained and config.real_pretrained:
            load_arcface(encoder, config.real_pretrained, "real_pretrained")
        return encoder

    def _meet(self, domains: int, pretrained: bool) -> None:
        """Have a teacher for so many kinds of fakes, and a head that tells them and real faces apart."""
        config = self.config
        self.domains = domains
        self.teachers = nn.ModuleList(
            [Encoder(config.teacher, config, pretrained, "teacher") for _ in range(self.domains)]
        )
        self.domain_head = head(WIDTH // 2, self.domains + 1)

    def _labels_that_keep(self, data_info: Any) -> list[bool]:
        """Return of each domain whether its fakes keep the face; asked only where `real` counts."""
        if not self.config.real_weight:
            return []
        names = self.config.keeps_identity
        published = {label: number for number, label in enumerate(labels_of(_PUBLISHED_DATASET))}
        numbers = published if data_info is None else data_info.manipulations
        if unknown := [name for name in names if not numbers.get(name)]:
            raise ConfigError(
                f"keeps_identity: {', '.join(unknown)} is no kind of fake in the training data; "
                f"known: {', '.join(name for name, number in numbers.items() if number)}"
            )
        return [number in {numbers[name] for name in names} for number in range(1, self.domains + 1)]

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        image = batch["image"]
        student = self.student(image)  # (B, 512, h, w)
        cls = self.head(student)
        prob = fake_probability(cls)
        answer = {"cls": cls, "prob": prob, "feat": prob, "student": student}
        return answer if inference else answer | self._taught(batch)

    def _taught(self, batch: Batch) -> Prediction:
        """Return what training adds: the domain head's answer and the maps that the student shall come to."""
        image = batch["image"]
        if batch.get("roles") != self.domains + 1 or len(image) % (self.domains + 1):
            raise DataError(
                f"lsda trains on groups of a real face and {self.domains} kinds of fakes, and the batch has "
                f"{batch.get('roles', 1)} role(s); set dataset_type: lsda, and train on the data that the detector was built for"
            )
        roles = image.unflatten(0, (self.domains + 1, -1))  # (1 + D, G, 3, H, W)
        forged = torch.stack([teach(faces) for teach, faces in zip(self.teachers, roles[1:], strict=True)]).float()
        real = self.real(roles[0]).float()  # (G, 512, h, w)
        fused = self.fusion(self._augmented(forged, batch))
        cls_domain = self.domain_head(torch.cat([real, forged.flatten(0, 1)]))
        found = {"cls_domain": cls_domain, "teacher": torch.cat([real, fused.float()])}
        if self.config.real_weight:
            others = torch.stack([self.real(faces).float() for faces in roles[1:]])
            found["similarity"] = F.cosine_similarity(real, others, dim=2).mean((2, 3))  # (D, G)
        return found

    def _augmented(self, forged: Tensor, batch: Batch) -> Tensor:
        """Return both augmentations of the teachers' maps `(D, G, C, h, w)`, `(D · G, 2 · C, h, w)`."""
        domains, groups, channels, height, width = forged.shape
        seeds = batch["chance"][:groups] if "chance" in batch else torch.randint(1 << 31, (groups,))
        chances = Chances.of(seeds.tolist(), (domains, channels, height, width), self.limits).to(forged.device)
        everyone = gather_rows(forged.transpose(0, 1), own=not batch.get("stand_in")).transpose(0, 1)
        if not everyone.shape[1]:  # nobody has a face of his own
            everyone = forged
        within = within_domain(forged, everyone, chances, self.limits)
        return torch.cat([within, across_domains(forged, chances)], dim=2).flatten(0, 1)

    def loss_weights(self) -> dict[str, float]:
        config = self.config
        return {
            "cls": config.cls_weight,
            "domain": config.domain_weight,
            "distillation": config.distillation_weight,
            "real": config.real_weight,
        }

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        groups = len(batch["label"]) // (self.domains + 1)
        # Batches are role-major: real faces, then each kind of fakes.
        domain = torch.arange(self.domains + 1, device=batch["label"].device).repeat_interleave(groups)
        apart = (prediction["student"].float() - prediction["teacher"]).square()
        parts = {
            "cls": cross_entropy(prediction["cls"], batch["label"]),
            "domain": cross_entropy(prediction["cls_domain"], domain),
            "distillation": apart[:groups].mean() + apart[groups:].mean(),
        }
        if self.config.real_weight:
            near = prediction["similarity"].mean(dim=1)  # (D,)
            sign = near.new_tensor([1.0 if keeps else -1.0 for keeps in self.keeping])
            parts["real"] = (sign * (1 - near)).sum()
        return self.summed(parts)

    def convert_keys(self, state: State) -> State:
        return lsda_keys(state)

    def adapt_to(self, state: State) -> None:
        there = teachers_in(state)
        if there and there != self.domains:
            log.warning("the weights know %d kinds of fakes, and so does the detector now, not %d", there, self.domains)
            self._meet(there, pretrained=False)


def head(hidden: int, classes: int) -> nn.Sequential:
    """Return the layers from a map `(B, 512, h, w)` to logits `(B, classes)`."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, hidden), nn.LeakyReLU(), nn.Linear(hidden, classes)
    )
