"""IID: a swapped face seems to be one person to a face recogniser, and is on the head of another.

Huang et al., "Implicit Identity Driven Deepfake Face Swapping Detection", CVPR 2023. A face recogniser (ArcFace) gives the
*explicit* identity, which in a swap is the source's. Xception is taught to see the *implicit* one, the target's, which in a
real face is the same. Their difference is what the classifier reads.

    L = L_cls + 0.05 · L_iie + 0.1 · L_eic
    L_cls   cross-entropy of 8 · (σ(logits) − 0.2 on the true class)
    L_iie   implicit identity exploration: cross-entropy over the known people with ArcFace's margin (m = 0.4, s = 64)
    L_eic   explicit identity contrast: mean cosine of implicit and explicit identity over fakes, less that over real faces

The recogniser is a file of its own, `explicit_extractor_pretrained`, and says itself how deep it is. It stays as it is, for
it is to know people, not forgeries. `L_iie` counts people whom the index names, real and fake; a fake is its target.

What DeepfakeBench does otherwise (`iid_benchmark.yaml`): the recogniser trains along (`train_extractor: true`), which lets
both networks meet anywhere; a fake counts as the second person in its folder's name, the source (`identity: source`), whose
face is the explicit identity; there are 1000 people, whatever the data. It also leaves out the recogniser's last
normalisation for an image that is alone in its batch, which then gets another answer; here it gets the same. The weights,
margins and scales above are its own. Reenactments (Face2Face, NeuralTextures) show one person only, and teach L_eic nothing true.

Input 256×256 (112×112 for the recogniser). 66.0 M parameters with IResNet-50, of which 22.4 M train; 12.3 G multiply-adds
per image at that size.
"""

import logging
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from training.batch import Batch
from training.config.schema import MANY, BackboneConfig, Config, NonNegative, Positive
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.iid.identity_network import (
    EMBEDDING,
    SHAPES,
    IdentityNetwork,
    NetworkName,
    network_from_file,
    shape_of,
)
from training.detectors.registry import register_detector
from training.loss.additive_margin import am_softmax
from training.loss.arcmargin import ArcMargin
from training.loss.classification import fake_probability
from training.loss.masked import UNKNOWN, known_cross_entropy, known_mean
from training.networks.conversion.xception_keys import LAST_LINEAR
from training.networks.weights import State, rename
from training.networks.xception_stages import (
    adjust_channel,
    blocks,
    build_xception,
    exit_flow,
    stem_first,
    stem_second,
)

log = logging.getLogger("clipdeepfake")
_RULES = [
    (LAST_LINEAR.format(trunk="backbone"), "head."),
    (r"^backbone\.adjust_channel\.", "adjust."),
    (r"^explicit_extractor\.", "extractor."),
]
_EXTRACTOR = "extractor."


class IidBackbone(BackboneConfig):
    """The trunk's variant."""

    mode: Literal["adjust_channel_iid"] = "adjust_channel_iid"


class IidConfig(Config):
    """IID's own keys."""

    backbone_config: IidBackbone = Field(default_factory=IidBackbone)
    loss_func: Literal["cross_entropy"] = "cross_entropy"
    embedding_size: Literal[512] = Field(512, description="of both identities")
    explicit_extractor_pretrained: str | None = Field(
        "backbone.pth", description="weights of the face recogniser, an ArcFace IResNet; null: random, for trials"
    )
    explicit_extractor: NetworkName = Field("iresnet50", description="the recogniser's shape where no file tells it")
    train_extractor: bool = Field(False, description="let the recogniser train along, as in DeepfakeBench")
    identity: Literal["target", "source"] = Field(
        "target", description="who a fake is: the head's person, or the face's"
    )
    identities: int = Field(1000, ge=2, le=MANY, description="people of the L_iie where no training data name them")
    iie_weight: NonNegative = 0.05
    iie_margin: NonNegative = Field(0.4, description="m of the L_iie, in radians")
    iie_scale: Positive = Field(64.0, description="s of the L_iie")
    eic_weight: NonNegative = 0.1
    class_margin: NonNegative = Field(0.2, description="of the L_cls")
    class_scale: Positive = Field(8.0, description="of the L_cls")

    @field_validator("dataset_type", mode="before")
    @classmethod
    def _any_recipe_names_people(cls, value: Any) -> Any:
        """Take DeepfakeBench's `iid`, whose samples are frames with a person's number: every recipe gives those."""
        return None if value == "iid" else value


@register_detector(IidConfig)
class IidDetector(Detector):
    """Xception's implicit identity less the recogniser's explicit one → class."""

    card = DetectorCard(
        title="IID",
        kind="spatial",
        paper="Implicit Identity Driven Deepfake Face Swapping Detection",
        year=2023,
        url="https://openaccess.thecvf.com/content/CVPR2023/html/"
        "Huang_Implicit_Identity_Driven_Deepfake_Face_Swapping_Detection_CVPR_2023_paper.html",
        parity="DeepfakeBench: outputs, losses and gradient norm",
    )
    training_only = (r"^iie\.",)
    unused_keys = training_only  # where the training identities are not at hand, prediction needs none of it

    config: IidConfig

    def __init__(self, config: IidConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_xception(config, pretrained, mode="adjust_channel_iid")
        self.adjust = adjust_channel()
        self.extractor = self._recogniser(pretrained)
        self.dropout = nn.Dropout(config.backbone_config.dropout)
        self.head = nn.Linear(EMBEDDING, 2)
        people = config.identities if data_info is None else len(data_info.identities)
        self.iie = self._people(people) if people > 1 and config.iie_weight else None
        if self.iie is None and config.iie_weight:
            log.warning("the training data name %d people: IID trains without its implicit identity loss", people)

    def _recogniser(self, pretrained: bool) -> IdentityNetwork:
        config = self.config
        if pretrained and config.explicit_extractor_pretrained is not None:
            return network_from_file(config.explicit_extractor_pretrained, config.train_extractor)
        if pretrained:
            log.warning("explicit_extractor_pretrained is null: IID's recogniser is random and knows nobody")
        return IdentityNetwork(SHAPES[config.explicit_extractor], config.train_extractor)

    def _people(self, count: int) -> ArcMargin:
        return ArcMargin(EMBEDDING, count, self.config.iie_scale, self.config.iie_margin)

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        image = batch["image"]
        explicit = self.extractor(image)  # (B, 512)
        feat = self.features(image)  # (B, 512, h, w)
        implicit = feat.mean((2, 3))
        cls = self.head(self.dropout(implicit - explicit))  # (B, 2)
        prob = fake_probability(cls)
        return {"cls": cls, "prob": prob, "feat": feat, "id_feat": explicit, "embed": implicit}

    def features(self, image: Tensor) -> Tensor:
        """Return the trunk's map `(B, 512, H/32, W/32)`, not negative."""
        x = stem_second(self.backbone, stem_first(self.backbone, image))
        return self.adjust(exit_flow(self.backbone, blocks(self.backbone, x, 1, 12)))

    def person(self, batch: Batch) -> Tensor:
        """Return whose implicit identity every image has, `(B,)`; −1 unknown."""
        target = batch["target_id"]
        return (
            target if self.config.identity == "target" else torch.where(batch["label"] == 0, target, batch["source_id"])
        )

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        counts = {"real": (batch["label"] == 0).sum(), "fake": (batch["label"] == 1).sum()}
        return counts if self.iie is None else {**counts, "iie": (self.person(batch) != UNKNOWN).sum()}

    def loss_weights(self) -> dict[str, float]:
        return {"iie": self.config.iie_weight, "eic": self.config.eic_weight}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        config, label, counts = self.config, batch["label"], batch.get("counts", {})
        implicit = prediction["embed"].float()
        logits = prediction["cls"].float()
        parts = {"cls": am_softmax(logits.sigmoid(), label, config.class_margin, config.class_scale)}
        if self.iie is not None:
            person = self.person(batch)
            parts["iie"] = known_cross_entropy(self.iie(implicit, person.clamp_min(0)), person, counts.get("iie"))
        alike = F.cosine_similarity(implicit, prediction["id_feat"].float(), dim=1)
        fake = known_mean(alike, label == 1, counts.get("fake"))
        parts["eic"] = fake - known_mean(alike, label == 0, counts.get("real"))
        return self.summed(parts)

    def convert_keys(self, state: State) -> State:
        state = rename(state, _RULES)
        if "IIE_LOSS.kernel" in state:
            state["iie.weight"] = state.pop("IIE_LOSS.kernel").transpose(0, 1)
        return state

    def adapt_to(self, state: State) -> None:
        state = self.convert_keys(dict(state))
        inside = {key.removeprefix(_EXTRACTOR): state[key] for key in state if key.startswith(_EXTRACTOR)}
        shape = shape_of(inside)
        if shape != self.extractor.shape:
            self.extractor = IdentityNetwork(shape, self.config.train_extractor)
        known = state.get("iie.weight")
        if self.iie is not None and known is not None and len(known) != len(self.iie.weight):
            log.warning("the weights know %d people, and so does the detector now", len(known))
            self.iie = self._people(len(known))
