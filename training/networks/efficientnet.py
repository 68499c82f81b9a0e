"""EfficientNet-B4 (Tan & Le, ICML 2019) from timm, with the arithmetic of the weights that this field publishes.

Two things differ from timm's `tf_efficientnet_b4` in those weights, both in padding, which TensorFlow's "same" makes uneven:
`efficientnet_pytorch` fixes it once, for the 380 pixels that B4 was designed for, whatever the input is; and DeepfakeBench's
stem has none at all. 256 pixels become maps of 127, 63, 32, 16 and 8.
"""

from typing import cast

import timm
from pydantic import Field
from timm.layers import Conv2dSame
from timm.models import adapt_input_conv
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import ConfigError
from training.config.schema import BackboneConfig, Config, Probability
from training.networks.conversion.efficientnet_keys import timm_keys
from training.networks.pretrained import load_pretrained
from training.networks.weights import State

FEATURES = 1792
_NAME = "tf_efficientnet_b4"
_IMAGENET_HEAD = r"^(classifier|_fc)\."
# The side that the paddings are fixed for.
_DESIGNED_FOR = 380


class EfficientNetConfig(BackboneConfig):
    """What the trunk is asked for."""

    drop_path: Probability = Field(0.2, description="stochastic depth, growing linearly to this in the last block")
    stem_padding: bool = Field(False, description="pad the stem as EfficientNet does; the field's weights have none")


class FixedSameConv2d(nn.Conv2d):
    """A strided convolution that pads as TensorFlow would for another input size, more on the right and below.

    The state dict is that of a plain convolution.
    """

    def __init__(self, like: nn.Conv2d, side: int | None):
        """Take the shape of `like`; pad for maps of that side, or not at all."""
        super().__init__(
            like.in_channels,
            like.out_channels,
            like.kernel_size,  # type: ignore[arg-type]
            like.stride,  # type: ignore[arg-type]
            groups=like.groups,
            bias=like.bias is not None,
        )
        self.load_state_dict(like.state_dict())
        self.pad_for(side)

    def pad_for(self, side: int | None) -> None:
        """Pad for maps of that side, or not at all."""
        total = same_padding(side, self.kernel_size[0], self.stride[0]) if side else 0
        self.edges = (total // 2, total - total // 2) * 2  # left, right, top, bottom

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, self.edges))


def same_padding(side: int, kernel: int, stride: int) -> int:
    """Return by how many pixels a map grows so that ceil(side / stride) outputs come from it."""
    return max(0, (-(-side // stride) - 1) * stride + kernel - side)


def build_efficientnet(config: Config, pretrained: bool, *, num_classes: int = 2) -> EfficientNet:
    """Return EfficientNet-B4 without its classifier, with the weights of `config.pretrained` where asked.

    Other than three input channels (`inc`) take ImageNet's kernels tiled and scaled. `num_classes` is what the detector's own
    classifier has.

    Raises:
        ConfigError: another variant is asked for. WeightsError: the weights cannot be had; says which file to put where.
    """
    asked = config.backbone_config
    if asked.num_classes != num_classes or (asked.mode or "original").lower() != "original":
        raise ConfigError(
            f"backbone_config: {config.model_name} takes mode `original` and num_classes {num_classes}, "
            f"not mode `{asked.mode}` and num_classes {asked.num_classes}"
        )
    drop_path, stem_padding = (
        (asked.drop_path, asked.stem_padding) if isinstance(asked, EfficientNetConfig) else (0.2, False)
    )
    net = cast(
        EfficientNet,
        timm.create_model(_NAME, pretrained=False, num_classes=0, in_chans=asked.inc, drop_path_rate=drop_path),
    )
    _fix_padding(net, stem_padding)
    if pretrained:
        load_pretrained(
            net, config.pretrained, _NAME, ignore=(_IMAGENET_HEAD,), convert=lambda state: _fitted(state, asked.inc)
        )
    return net


def pad_stem(net: EfficientNet, padded: bool) -> None:
    """Let the stem pad as EfficientNet does, or not at all as in DeepfakeBench."""
    cast(FixedSameConv2d, net.conv_stem).pad_for(_DESIGNED_FOR if padded else None)


def final_map(net: EfficientNet, image: Tensor) -> Tensor:
    """Return the last map `(B, 1792, H/32, W/32)`, activated, of normalised images."""
    return net.forward_features(image)


def stem(net: EfficientNet, image: Tensor) -> Tensor:
    """Return `(B, 48, ~H/2, ~W/2)` of normalised images."""
    return net.bn1(net.conv_stem(image))  # timm's norms activate


def stages(net: EfficientNet, x: Tensor, first: int, last: int) -> Tensor:
    """Return what stages `first` to `last` (1 to 7, inclusive) make of a map.

    They have 24, 32, 56, 112, 160, 272 and 448 channels, at strides 2, 4, 8, 16, 16, 32 and 32.
    """
    return net.blocks[first - 1 : last](x)


def head_map(net: EfficientNet, x: Tensor) -> Tensor:
    """Return the last map `(B, 1792, h, w)`, activated, of what the last stage returns."""
    return net.bn2(net.conv_head(x))


def _fix_padding(net: EfficientNet, stem_padding: bool) -> None:
    side = _DESIGNED_FOR
    for name, layer in [(n, m) for n, m in net.named_modules() if isinstance(m, Conv2dSame)]:
        unpadded = name == "conv_stem" and not stem_padding
        net.set_submodule(name, FixedSameConv2d(layer, None if unpadded else side))
        side = -(-side // layer.stride[0])


def _fitted(state: State, inc: int) -> State:
    state = timm_keys(state) if "_conv_stem.weight" in state else state
    return state | {"conv_stem.weight": adapt_input_conv(inc, state["conv_stem.weight"])}
