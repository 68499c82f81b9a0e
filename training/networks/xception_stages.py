"""Xception (Chollet, CVPR 2017) from timm, cut into the stages between which detectors insert their parts.

Every function takes timm's `legacy_xception`, whose parameter names are those of the published ImageNet weights and, inside
`backbone.`, of DeepfakeBench. The stem has no padding: 256 pixels become maps of 127, 125, 63, 32, 16 and 8.
"""

from typing import cast

import timm
from timm.models import adapt_input_conv
from timm.models.xception import Xception
from torch import Tensor, nn

from common.errors import ConfigError
from training.config.schema import Config
from training.networks.conversion.xception_keys import imagenet_keys
from training.networks.pretrained import load_pretrained
from training.networks.weights import State

FEATURES = 2048
MIDDLE = 728
_NAME = "legacy_xception"
# The classifier of ImageNet weights, under timm's and the original's name.
_IMAGENET_HEAD = r"^(fc|last_linear)\."


def build_xception(config: Config, pretrained: bool, *, inc: int = 3, mode: str = "original") -> Xception:
    """Return Xception without its classifier, with the weights of `config.pretrained` where asked.

    Args:
        config: the detector's configuration.
        pretrained: load what `config.pretrained` names.
        inc: input channels. ImageNet's kernels are tiled over them and scaled by 3 / inc, so that activations keep their size.
        mode: the variant that the detector is written for (`adjust_channel`: its maps go through `adjust_channel()`).

    Raises:
        ConfigError: another variant is asked for. WeightsError: the weights cannot be had; says which file to put where.
    """
    asked = config.backbone_config
    if (asked.inc, asked.num_classes) != (inc, 2) or asked.mode not in (None, mode):
        raise ConfigError(
            f"backbone_config: {config.model_name} takes mode `{mode}`, inc {inc} and num_classes 2, not mode `{asked.mode}`, "
            f"inc {asked.inc} and num_classes {asked.num_classes}"
        )
    net = cast(Xception, timm.create_model(_NAME, pretrained=False, num_classes=0, in_chans=inc))
    if pretrained:
        load_pretrained(
            net, config.pretrained, _NAME, ignore=(_IMAGENET_HEAD,), convert=lambda state: _fitted(state, inc)
        )
    return net


def _fitted(state: State, inc: int) -> State:
    state = imagenet_keys(state)
    return state | {"conv1.weight": adapt_input_conv(inc, state["conv1.weight"])}


def adjust_channel() -> nn.Sequential:
    """Return DeepfakeBench's layer from the last map before its activation, `(B, 2048, h, w)`, to `(B, 512, h, w)`."""
    return nn.Sequential(nn.Conv2d(FEATURES, 512, 1), nn.BatchNorm2d(512), nn.ReLU())


class Head(nn.Linear):
    """The classifier of pooled features `(B, 2048)` into real and fake, behind the configured dropout."""

    def __init__(self, config: Config):
        super().__init__(FEATURES, 2)
        self.dropout = nn.Dropout(config.backbone_config.dropout)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits `(B, 2)`."""
        return super().forward(self.dropout(pooled))


def stem_first(net: Xception, image: Tensor) -> Tensor:
    """Return `(B, 32, ~H/2, ~W/2)`."""
    return net.act1(net.bn1(net.conv1(image)))


def stem_second(net: Xception, x: Tensor) -> Tensor:
    """Return `(B, 64, ~H/2, ~W/2)`."""
    return net.act2(net.bn2(net.conv2(x)))


def blocks(net: Xception, x: Tensor, first: int, last: int) -> Tensor:
    """Return what blocks `first` to `last` (1 to 12, inclusive) make of a map.

    1 to 3 are the entry flow, which ends at stride 16 with 728 channels; 12 goes to stride 32 with 1024.
    """
    for number in range(first, last + 1):
        x = net.get_submodule(f"block{number}")(x)
    return x


def exit_flow(net: Xception, x: Tensor) -> Tensor:
    """Return `(B, 2048, h, w)` before the last activation."""
    x = net.act3(net.bn3(net.conv3(x)))
    return net.bn4(net.conv4(x))


def final_map(net: Xception, image: Tensor) -> Tensor:
    """Return the last map `(B, 2048, H/32, W/32)`, activated, of normalised images."""
    x = stem_second(net, stem_first(net, image))
    return exit_flow(net, blocks(net, x, 1, 12)).relu()


def middle_size(resolution: int) -> int:
    """Return the side of the maps between block 3 and block 12 for square images of that side."""
    side = (resolution - 3) // 2 + 1 - 2
    for _ in range(3):
        side = (side - 1) // 2 + 1
    return side
