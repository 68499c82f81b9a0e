"""Xception with other inputs, and EfficientNet-B4's padding and names."""

import pytest
import timm
import torch
from helpers.detector_checks import build
from timm.layers import Conv2dSame
from torch import nn

from common.errors import ConfigError
from training.config.schema import BackboneConfig, Config
from training.networks.conversion.efficientnet_keys import timm_keys
from training.networks.efficientnet import FixedSameConv2d, build_efficientnet, same_padding
from training.networks.xception_stages import adjust_channel, build_xception, exit_flow, final_map


def config(pretrained=None, **backbone):
    return Config(model_name="xception", pretrained=pretrained, backbone_config=BackboneConfig(**backbone))


def test_more_channels_take_imagenets_kernels_tiled_and_scaled(tmp_path):
    plain = build_xception(config(), pretrained=False)
    torch.save(plain.state_dict(), tmp_path / "trunk.pth")
    twelve = build_xception(config(str(tmp_path / "trunk.pth"), inc=12), pretrained=True, inc=12).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(final_map(twelve, image.repeat(1, 4, 1, 1)), final_map(plain.eval(), image))
    with pytest.raises(ConfigError, match="inc 12 and num_classes 2, not mode `None`, inc 4"):
        build_xception(config(inc=4), pretrained=False, inc=12)


def test_a_variant_is_taken_by_the_detector_that_is_written_for_it():
    asked = config(mode="adjust_channel")
    with pytest.raises(ConfigError, match="takes mode `original`"):
        build_xception(asked, pretrained=False)
    build_xception(asked, pretrained=False, mode="adjust_channel")
    assert adjust_channel()(torch.randn(2, 2048, 2, 2)).shape == (2, 512, 2, 2)
    assert exit_flow(build_xception(asked, False, mode="adjust_channel"), torch.randn(1, 1024, 2, 2)).min() < 0


@pytest.mark.parametrize(("side", "kernel", "stride"), [(380, 3, 2), (95, 5, 2), (48, 3, 2), (24, 5, 2), (7, 1, 3)])
def test_same_padding_gives_one_output_per_stride(side, kernel, stride):
    total = same_padding(side, kernel, stride)
    outputs = (side + total - kernel) // stride + 1
    assert outputs == -(-side // stride) or kernel < stride
    assert total == 0 or (side + total - 1 - kernel) // stride + 1 < outputs  # one pixel less would be too few


def test_at_the_designed_size_the_padding_is_tensorflows():
    torch.manual_seed(0)
    for side, kernel in ((380, 3), (95, 5), (48, 3), (24, 5)):
        theirs = Conv2dSame(2, 2, kernel, stride=2)
        ours, x = FixedSameConv2d(theirs, side), torch.randn(1, 2, side, side)
        torch.testing.assert_close(ours(x), theirs(x))


def test_the_stem_may_be_padded():
    assert build("efficientnetb4").backbone.conv_stem.edges == (0, 0, 0, 0)
    padded = build("efficientnetb4", backbone_config={"stem_padding": True})
    assert padded.backbone.conv_stem.edges == (0, 1, 0, 1)


def test_weights_under_the_originals_names_start_efficientnet(tmp_path):
    torch.manual_seed(2)
    state = timm.create_model("tf_efficientnet_b4", pretrained=False).state_dict()
    published = {original_name(key): value for key, value in state.items()}
    assert len(published) == len(state)
    assert timm_keys(published).keys() == {k.replace("classifier.", "_fc.") for k in state}
    torch.save(published, tmp_path / "efficientnet-b4-6ed6700e.pth")
    net = build_efficientnet(config(str(tmp_path / "efficientnet-b4-6ed6700e.pth")), pretrained=True)
    for key, value in net.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert isinstance(net.classifier, nn.Identity)


def original_name(key: str) -> str:
    """Return efficientnet_pytorch's name of one of timm's, from the order of layers in a block."""
    stages, parts = (2, 4, 4, 6, 6, 8, 2), key.split(".")
    if parts[0] != "blocks":
        outer = {
            "conv_stem": "_conv_stem",
            "bn1": "_bn0",
            "conv_head": "_conv_head",
            "bn2": "_bn1",
            "classifier": "_fc",
        }
        return ".".join([outer[parts[0]], *parts[1:]])
    stage, block, name = int(parts[1]), int(parts[2]), ".".join(parts[3:-1])
    order = ["conv_pw", "bn1", "conv_dw", "bn2", "se.conv_reduce", "se.conv_expand", "conv_pwl", "bn3"]
    names = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_se_reduce", "_se_expand", "_project_conv", "_bn2"]
    if stage == 0:
        order, names = ["conv_dw", "bn1", *order[4:6], "conv_pw", "bn2"], names[2:]
    return f"_blocks.{sum(stages[:stage]) + block}.{names[order.index(name)]}.{parts[-1]}"
