"""FFD: an attention map, shown where faces were manipulated, weighs the features halfway through the network.

Dang et al., "On the Detection of Digital Face Manipulation", CVPR 2020. A map M is read from Xception's middle flow (after block
7); what follows sees the features times M.

    L = L_cls + λ · L_map,  λ = 1
    full:  L_map = |M − M_gt|, the mask at the map's size (0 everywhere for real faces)
    weak:  |M| for real faces, |max M − 0.75| for fake ones, where masks are not known
    none:  L_map is left out

Under full supervision a fake whose mask nobody recorded (`loss.masked.known_masks`) counts in no map loss. The map is
regressed (`maptype: reg`), or combined from the mean and principal components of training masks (`mam`,
training/generate_map_basis.py).

What differs from the paper: masks are those of the data sets instead of thresholded differences of fake and source; the
appearance model's map is used as it is, as in the authors' code, where the paper puts a sigmoid over every map. What
DeepfakeBench does otherwise: nothing in prediction; its training fails when masks are given, and without them is
cross-entropy alone (`with_mask: false`, as its file says). Its map types `tmp` and `pca_tmp` mix ten fixed pictures; `mam`
fits its own.

Input 256×256 (map 16×16). 20.8 M parameters, 6.0 G multiply-adds per image at that size.
"""

from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from common.errors import ConfigError
from training.batch import Batch
from training.config.schema import Config, NonNegative, Section
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.ffd.attention_map_loss import supervised_map_loss, weak_map_loss
from training.detectors.parts.ffd.manipulation_map import AppearanceMap, RegressedMap
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.loss.masked import known_masks, known_mean
from training.networks.conversion.xception_keys import UNUSED_KEYS, head_keys
from training.networks.weights import State, rename
from training.networks.xception_stages import (
    MIDDLE,
    Head,
    blocks,
    build_xception,
    exit_flow,
    middle_size,
    stem_first,
    stem_second,
)


class FfdLosses(Section):
    """The two losses by the field's names."""

    cls_loss: Literal["cross_entropy"] = "cross_entropy"
    mask_loss: Literal["l1loss"] = "l1loss"


class FfdConfig(Config):
    """FFD's own keys."""

    with_mask: bool = True
    maptype: Literal["reg", "mam", "none"] = Field("reg", description="how the attention map is made")
    map_basis: str | None = Field(None, description="for mam: .npz of generate_map_basis.py")
    map_components: int = Field(10, ge=1, le=1000, description="for mam: principal components")
    loss_func: FfdLosses = FfdLosses()  # type: ignore[assignment]
    map_weight: NonNegative = Field(1.0, description="λ, the weight of the map's loss")
    supervision: Literal["full", "weak", "none"] | None = Field(
        None, description="of the map: masks, labels, or nothing; null: masks with with_mask, else nothing"
    )

    @model_validator(mode="after")
    def _masks_are_read(self) -> "FfdConfig":
        if self.supervision == "full" and not self.with_mask:
            raise ValueError("supervision full needs with_mask: true; without masks set supervision to weak or none")
        return self

    @property
    def asked_of_map(self) -> str:
        """What supervises the map: `full`, `weak` or `none`."""
        if self.maptype == "none":
            return "none"
        return self.supervision or ("full" if self.with_mask else "none")


@register_detector(FfdConfig)
class FfdDetector(Detector):
    """Xception with an attention map after block 7."""

    card = DetectorCard(
        title="FFD",
        kind="spatial",
        paper="On the Detection of Digital Face Manipulation",
        year=2020,
        url="https://arxiv.org/abs/1910.01717",
        parity="DeepfakeBench: outputs",
    )
    unused_keys = UNUSED_KEYS

    config: FfdConfig

    def __init__(self, config: FfdConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone = build_xception(config, pretrained)
        self.head = Head(config)
        self.map = self._build_map(config, pretrained)

    def _build_map(self, config: FfdConfig, pretrained: bool) -> nn.Module | None:
        if config.maptype == "none":
            return None
        if config.maptype == "reg":
            return RegressedMap(MIDDLE)
        made = AppearanceMap(MIDDLE, map_size(config.resolution), config.map_components)
        if pretrained:
            if config.map_basis is None:
                raise ConfigError("maptype mam needs map_basis; make the file with training/generate_map_basis.py")
            made.load_appearance(config.map_basis)
        return made

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        x = stem_second(self.backbone, stem_first(self.backbone, batch["image"]))
        x = blocks(self.backbone, x, 1, 7)  # (B, 728, H/16, W/16)
        extra: Prediction = {}
        if self.map is not None:
            extra["mask"] = self.map(x)  # (B, 1, H/16, W/16)
            x = x * extra["mask"]
        feat = exit_flow(self.backbone, blocks(self.backbone, x, 8, 12)).relu()  # (B, 2048, H/32, W/32)
        cls = self.head(feat.mean((2, 3)))
        return {"cls": cls, "prob": fake_probability(cls), "feat": feat, **extra}

    def loss_weights(self) -> dict[str, float]:
        return {"mask": self.config.map_weight}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        if self.config.asked_of_map != "full":
            return {}
        return {"mask": known_masks(batch["mask"], batch["label"]).sum()}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        cls = cross_entropy(prediction["cls"], batch["label"])
        if self.config.asked_of_map == "none":
            return self.summed({"cls": cls})
        return self.summed({"cls": cls, "mask": self._map_loss(batch, prediction["mask"])})

    def _map_loss(self, batch: Batch, attention: Tensor) -> Tensor:
        """Return the mean distance to the masks that are known, or what labels alone ask."""
        if self.config.asked_of_map == "weak":
            return weak_map_loss(attention, batch["label"]).mean()
        each = supervised_map_loss(attention, batch["mask"])
        return known_mean(each, known_masks(batch["mask"], batch["label"]), batch.get("counts", {}).get("mask"))

    def convert_keys(self, state: State) -> State:
        return rename(head_keys(state), [(r"^map\.c\.conv1\.", "map.depthwise."), (r"^map\.c\.", "map.")])


def map_size(resolution: int) -> int:
    """Return the side of the attention map for square images of that side."""
    return middle_size(resolution)
