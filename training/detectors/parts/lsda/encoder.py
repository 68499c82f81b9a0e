"""Encoders whose maps LSDA compares: a trunk, and a layer that brings its last map to 512 channels."""

from __future__ import annotations

import difflib

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import ConfigError
from training.config.schema import Config
from training.networks.conversion.xception_keys import imagenet_keys
from training.networks.efficientnet import FEATURES, build_efficientnet
from training.networks.iresnet import IResNet
from training.networks.pretrained import load_pretrained

WIDTH = 512
# Pixels of the picture along a side of the map's.
STRIDE = 32
EFFICIENTNET = "efficientnetb4"
# The field's name → timm's.
_ALIASES = {"xception": "legacy_xception"}
_IMAGENET_HEAD = r"^(?:classifier|fc|last_linear|head)\."


class Encoder(nn.Module):
    """`(B, 3, H, W)` → `(B, 512, H/32, W/32)`.

    Args:
        name: `efficientnetb4`, `xception` or a name of timm's. key: the setting that gives it, for messages.
    """

    def __init__(self, name: str, config: Config, pretrained: bool, key: str):
        super().__init__()
        self.trunk, channels = _trunk(name, config, pretrained, key)
        self.project = nn.Conv2d(channels, WIDTH, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.project(self.trunk.forward_features(image))  # type: ignore[operator]


class RealEncoder(IResNet):
    """ArcFace's trunk, its map halved to the size of the other encoders'."""

    def forward(self, image: Tensor) -> Tensor:
        return F.avg_pool2d(super().forward(image), 2)


def _trunk(name: str, config: Config, pretrained: bool, key: str) -> tuple[nn.Module, int]:
    if name == EFFICIENTNET:
        return build_efficientnet(config, pretrained), FEATURES
    architecture = _ALIASES.get(name, name)
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(name, [EFFICIENTNET, *_ALIASES, *timm.list_models()], n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise ConfigError(f"{key}: timm knows no network `{name}`{hint}")
    net = timm.create_model(architecture, pretrained=False, num_classes=0)
    last = getattr(net, "feature_info", None) or [{}]
    if last[-1].get("reduction") != STRIDE:
        raise ConfigError(f"{key}: `{name}` makes no maps of {STRIDE} pixels a place; take a convolutional network")
    if pretrained:
        load_pretrained(net, config.pretrained, architecture, ignore=(_IMAGENET_HEAD,), convert=imagenet_keys)
    return net, int(net.num_features)  # type: ignore[arg-type]  # a number with every network of timm
