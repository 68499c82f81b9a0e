"""Capsule-Forensics: ten small capsules on top of VGG-19's first layers, routed by agreement into a real and a fake one.

Nguyen et al., "Capsule-Forensics: Using Capsule Networks to Detect Forged Images and Videos", ICASSP 2019, and "Use of a Capsule
Network to Detect Fake Images and Videos", arXiv 1910.12467. VGG-19 up to its third pooling gives features and stays as ImageNet
left it; weights are noisy (0.01) and a twentieth of the predictions is dropped while routing is trained; a test is deterministic.

    L = L_cls + μ · L_margin
    L_cls     cross-entropy of the mean over the class capsules' four dimensions of their softmax, the paper's loss
    L_margin  Sabour et al.'s margin loss on the class capsules' lengths: 0.9 for the true class, 0.1 for the other

What differs from the paper: it trains with L_cls alone, as `margin_weight: 0` does; μ = 1 also asks for the lengths that
capsules were made for, which L_cls leaves free (and holds the two classes' probabilities a little closer together). The input
is the benchmark's 256 pixels instead of 300 (128 at first), its mean and standard deviation 0.5. Faults of the authors' code that
its weights depend on are kept and named in training/detectors/parts/capsule_net/network.py.

What DeepfakeBench does otherwise: its loss takes the softmax twice (`loss_func: capsule_loss`) and all but vanishes; VGG-19 is
trained too (`freeze_vgg: false`), without noise and dropout (`routing_noise: 0`, `routing_dropout: 0`), at 8e-5. Its `cls` is
already a probability, of which `prob` takes the softmax once more: the order of images is the same.

Input 256×256. 3.9 M parameters (1.6 M without VGG-19), 16.2 G multiply-adds per image at that size.
"""

from typing import Any, Literal

from pydantic import Field
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from training.batch import Batch
from training.config.schema import Config, NonNegative, Probability
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.capsule_net.margin_loss import (
    averaged_cross_entropy,
    capsule_margin,
    summed_cross_entropy,
)
from training.detectors.parts.capsule_net.network import DynamicRouting, PrimaryCapsules
from training.detectors.registry import register_detector
from training.loss.classification import fake_probability
from training.networks.pretrained import load_pretrained
from training.networks.weights import State, rename

# torchvision's plan of VGG-19 up to and with the third pooling.
_PLAN = cfgs["E"][:11]
_ARCHITECTURE = "vgg19"


class CapsuleConfig(Config):
    """Capsule-Forensics' own keys."""

    num_classes: Literal[2] = 2
    loss_func: Literal["margin_loss", "capsule_loss"] = Field(
        "margin_loss",
        description="margin_loss: the paper's cross-entropy and the margin | capsule_loss: the reference's",
    )
    margin_weight: NonNegative = Field(1.0, description="μ; 0: the paper's cross-entropy alone")
    primary_capsules: int = Field(10, ge=1, le=1000)
    routing_iterations: int = Field(2, ge=1, le=1000)
    routing_noise: NonNegative = Field(0.01, description="deviation of what is added to routing weights in training")
    routing_dropout: Probability = Field(0.05, description="share of predictions dropped in training")
    freeze_vgg: bool | None = Field(None, description="null: frozen where `pretrained` names its weights")


@register_detector(CapsuleConfig)
class CapsuleDetector(Detector):
    """VGG-19's first layers → primary capsules → dynamic routing → two class capsules."""

    card = DetectorCard(
        title="Capsule",
        kind="spatial",
        paper="Capsule-Forensics: Using Capsule Networks to Detect Forged Images and Videos",
        year=2019,
        url="https://arxiv.org/abs/1810.11215",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )

    config: CapsuleConfig

    def __init__(self, config: CapsuleConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.vgg = _first_layers()
        if pretrained:
            load_pretrained(self.vgg, config.pretrained, _ARCHITECTURE, convert=lambda state: _known(state, self.vgg))
        frozen = config.pretrained is not None if config.freeze_vgg is None else config.freeze_vgg
        self.vgg.requires_grad_(not frozen)
        self.primary = PrimaryCapsules(config.primary_capsules)
        self.routing = DynamicRouting(
            config.primary_capsules,
            config.num_classes,
            size=4,
            iterations=config.routing_iterations,
            noise=config.routing_noise,
            dropout=config.routing_dropout,
        )

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        feat = self.primary(self.vgg(batch["image"]))  # (B, 8, P)
        capsules = self.routing(feat)  # (B, 4, 2)
        classes = capsules.float().softmax(dim=2)
        cls = classes.mean(dim=1)  # (B, 2), sums to 1
        prob = fake_probability(cls)
        return {"cls": cls, "prob": prob, "feat": feat, "classes": classes, "length": capsules.norm(dim=1)}

    def loss_weights(self) -> dict[str, float]:
        return {"margin": self.config.margin_weight}

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        label = batch["label"]
        if self.config.loss_func == "capsule_loss":
            return self.summed({"cls": summed_cross_entropy(prediction["classes"], label)})
        cls = averaged_cross_entropy(prediction["classes"], label)
        margin = capsule_margin(prediction["length"], label)
        return self.summed({"cls": cls, "margin": margin})

    def convert_keys(self, state: State) -> State:
        return rename(
            state,
            [
                (r"^vgg_ext\.vgg_1\.", "vgg."),
                (r"^fea_ext\.capsules\.", "primary.capsules."),
                (r"^routing_stats\.", "routing."),
            ],
        )


def _first_layers() -> nn.Sequential:
    """Return VGG-19's layers up to the third pooling, initialised as torchvision does."""
    layers = make_layers(_PLAN)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layers


def _known(state: State, layers: nn.Sequential) -> State:
    """Return what a whole VGG-19, under torchvision's or timm's names, holds for these layers."""
    inside = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    return {key: inside[key] for key in layers.state_dict()}
