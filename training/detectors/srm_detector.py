"""SRM: a stream of colours and a stream of high-frequency noise, which tell each other where to look.

Luo et al., "Generalizing Face Forgery Detection with High-frequency Features", CVPR 2021. Two Xceptions. The noise stream takes
the image's SRM residuals, and at two scales the residuals of the colour stream's features; residuals guide the colour
stream's first attention; both streams attend to each other after the entry and the middle flow; their last maps are fused.
The loss is the additive-margin softmax (m = 0.45, s = 30, the authors' figures).

What differs from the paper: the margin is on the logits of a linear layer, as in the authors' own model code and in
DeepfakeBench, so that published weights predict as they did; `head: cosine` puts it on cosines, as additive-margin softmax is
defined. Published weights also fix two faults, which are kept: within one group of a feature map's residuals all three filters
are the same one (the first third of the channels get the first filter, and so on), and the residual-guided attention filters
twice. DeepfakeBench trains the same way.

Input 256×256; the cross-modal attention is tied to the resolution. 53.2 M parameters, 14.0 G multiply-adds per image at that
size.
"""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from training.batch import Batch
from training.config.schema import Config, NonNegative, Positive
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.srm.noise_residual import (
    CrossModalityAttention,
    NoiseFeatures,
    NoiseImage,
    ResidualGuidedAttention,
    StreamFusion,
)
from training.detectors.registry import register_detector
from training.loss.additive_margin import am_softmax
from training.loss.classification import fake_probability
from training.networks.conversion.xception_keys import LAST_LINEAR, UNUSED_KEYS
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


class SrmConfig(Config):
    """SRM's own keys."""

    loss_func: Literal["am_softmax"] = "am_softmax"
    margin: NonNegative = Field(0.45, description="m")
    scale: Positive = Field(30.0, description="s")
    head: Literal["linear", "cosine"] = Field("linear", description="what the margin is on: logits, or cosines")


@register_detector(SrmConfig)
class SrmDetector(Detector):
    """RGB and noise Xceptions with residual-guided and cross-modal attention."""

    card = DetectorCard(
        title="SRM",
        kind="frequency",
        paper="Generalizing Face Forgery Detection with High-frequency Features",
        year=2021,
        url="https://arxiv.org/abs/2103.12376",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )
    unused_keys = (*UNUSED_KEYS, r"^backbone_srm\.last_linear\.", r"^blur\.")

    config: SrmConfig

    def __init__(self, config: SrmConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.backbone_rgb = build_xception(config, pretrained)
        self.backbone_srm = build_xception(config, pretrained)
        self.srm_conv0 = NoiseImage()
        self.srm_conv1, self.srm_conv2 = NoiseFeatures(32), NoiseFeatures(64)
        self.srm_sa = ResidualGuidedAttention()
        self.srm_sa_post = nn.Sequential(nn.BatchNorm2d(64), nn.ReLU())
        places = middle_size(config.resolution) ** 2
        self.dual_cma0 = CrossModalityAttention(MIDDLE, places)
        self.dual_cma1 = CrossModalityAttention(MIDDLE, places)
        self.fusion = StreamFusion(2048)
        self.head = Head(config)
        if config.head == "cosine":
            self.head.bias.requires_grad_(False)

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        feat = self.features(batch["image"])
        pooled = feat.mean((2, 3))  # the map is activated already
        if self.config.head == "cosine":
            cls = F.normalize(self.head.dropout(pooled), dim=1) @ F.normalize(self.head.weight, dim=1).T
            confidence = cls * self.config.scale
        else:
            confidence = cls = self.head(pooled)  # (B, 2)
        return {"cls": cls, "prob": fake_probability(confidence), "feat": feat}

    def features(self, image: Tensor) -> Tensor:
        """Return the fused map `(B, 2048, H/32, W/32)` of normalised images."""
        colour, noise = self.backbone_rgb, self.backbone_srm
        residual = self.srm_conv0(image)
        x = stem_first(colour, image)
        y = (stem_first(noise, residual) + self.srm_conv1(x)).relu()
        x = stem_second(colour, x)
        y = (stem_second(noise, y) + self.srm_conv2(x)).relu()
        x = self.srm_sa_post(x + x * self.srm_sa(residual))
        x, y = self.dual_cma0(blocks(colour, x, 1, 3), blocks(noise, y, 1, 3))  # (B, 728, H/16, W/16)
        x, y = self.dual_cma1(blocks(colour, x, 4, 7), blocks(noise, y, 4, 7))
        x = exit_flow(colour, blocks(colour, x, 8, 12))
        y = exit_flow(noise, blocks(noise, y, 8, 12))
        return self.fusion(x, y)

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        loss = am_softmax(prediction["cls"], batch["label"], self.config.margin, self.config.scale)
        return self.summed({"am_softmax": loss})

    def convert_keys(self, state: State) -> State:
        squeeze = [
            (r"^(fusion\.ca)\.sharedMLP\.0\.", r"\1.squeeze."),
            (r"^(fusion\.ca)\.sharedMLP\.2\.", r"\1.expand."),
        ]
        return rename(state, [(LAST_LINEAR.format(trunk="backbone_rgb"), "head."), *squeeze])
