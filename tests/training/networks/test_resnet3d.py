"""The 3-D ResNet: its kernels and sizes, published weights under all names, and blocks that are computed again."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from parity.fill import fill_state_dict, load_golden
from torch import nn

from common.errors import WeightsError
from training.networks.recompute import recomputed
from training.networks.resnet3d import SHAPES, ConvNorm, ResNet3d, load_published

TINY = SHAPES["resnet3d_tiny"]
TEMPORAL_ONLY = TINY.in_time_alone()


def clip(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def slowfast(key):
    """Return SlowFast's name of one of ours."""
    for number, letter in enumerate(("temporal", "spatial", "last")):
        key = key.replace(f"{letter}.conv", f"branch2.{'abc'[number]}").replace(
            f"{letter}.norm", f"branch2.{'abc'[number]}_bn"
        )
    key = key.replace("shortcut.conv", "branch1").replace("shortcut.norm", "branch1_bn")
    key = re.sub(r"^stage(\d)\.(\d+)\.", r"s\1.pathway0_res\2.", key)
    return key.replace("stem.conv", "s1.pathway0_stem.conv").replace("stem.norm", "s1.pathway0_stem.bn")


def pytorchvideo(key):
    """Return PyTorchVideo's name of one of SlowFast's."""
    key = re.sub(r"^s([2-5])", lambda m: f"blocks.{int(m[1]) - (m[1] == '2')}", key)
    key = re.sub(r"pathway0_res(\d+)", r"res_blocks.\1", key)
    key = re.sub(r"branch2\.([abc])_bn", r"branch2.norm_\1", key)
    key = re.sub(r"branch2\.([abc])\.", r"branch2.conv_\1.", key)
    key = key.replace("branch1_bn", "branch1_norm").replace("branch1.", "branch1_conv.")
    key = key.replace("s1.pathway0_stem.bn", "blocks.0.norm").replace("s1.pathway0_stem.conv", "blocks.0.conv")
    return key.replace("head.projection", "blocks.6.proj")


def random_trunk(shape=TINY):
    torch.manual_seed(1)
    trunk = ResNet3d(shape)
    for norm in trunk.modules():
        if isinstance(norm, nn.BatchNorm3d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.running_mean, std=0.1)
    return trunk.eval()


def test_kernels_are_temporal_or_spatial_as_in_i3d():
    kernels = ResNet3d(replace(SHAPES["resnet3d50"], width=1)).kernels()
    assert len(kernels["temporal"]) == 3 + 2 + 3 + 1
    assert len(kernels["spatial"]) == 3 + 4 + 6 + 3
    assert {k.shape[2:] for k in kernels["temporal"]} == {(3, 1, 1)}
    assert {k.shape[2:] for k in kernels["spatial"]} == {(1, 3, 3)}


@pytest.mark.parametrize(("shape", "frames"), [(TINY, 3), (TEMPORAL_ONLY, 6), (TINY.stages(3), 3)])
def test_maps_have_the_promised_size(shape, frames):
    with torch.no_grad():
        found = ResNet3d(shape).eval()(clip(2, 6, 3, 64, 64))
    last = len(shape.depths) - 1
    assert found.shape == (2, shape.channels, frames, 16 // 2**last, 16 // 2**last)
    assert found.min() >= 0


def test_without_spatial_kernels_a_place_reads_nothing_but_itself():
    trunk, image = random_trunk(TEMPORAL_ONLY.stages(1)), clip(1, 4, 3, 32, 32)
    image[..., 16:, :] = 0
    changed = image.clone()
    changed[..., 17:, 17:] += 1  # one pixel inside the first cell of four
    with torch.no_grad():
        moved = (trunk(image) != trunk(changed)).any(2).any(1)[0]
    assert moved[4:, 4:].any()
    assert not moved[:4].any()
    assert not moved[:, :4].any()


def test_where_pixels_are_skipped_the_largest_is_taken():
    layer = ConvNorm(3, 5, 3, 7, 2, spatial=False).eval()
    x = clip(1, 3, 4, 6, 6)
    assert layer.conv.kernel_size == (3, 1, 1)
    with torch.no_grad():
        dense = layer.norm(layer.conv(x))
        torch.testing.assert_close(layer(x), dense.unflatten(3, (3, 2)).unflatten(5, (3, 2)).amax((4, 6)))


@pytest.mark.parametrize(
    "names", [slowfast, lambda key: pytorchvideo(slowfast(key)), lambda key: "resnet." + slowfast(key)]
)
def test_published_names_load(tmp_path, names):
    trunk = random_trunk()
    state = {names(key): value for key, value in trunk.state_dict().items()}
    head = names("head.projection.weight") if "branch1" not in names("shortcut.conv") else "head.projection.weight"
    torch.save({"model_state": state | {head: torch.zeros(400, 256)}}, tmp_path / "I3D_8x8_R50.pyth")
    other = ResNet3d(TINY).eval()
    load_published(other, str(tmp_path / "I3D_8x8_R50.pth"))  # the other suffix is found too
    assert all(torch.equal(value, trunk.state_dict()[key]) for key, value in other.state_dict().items())


def test_names_are_those_of_the_published_networks():
    golden = [key for key, *_ in load_golden("i3d")["keys"] if "head" not in key]
    own = ResNet3d(replace(SHAPES["resnet3d50"], width=1)).state_dict()
    assert [f"resnet.{slowfast(key)}" for key in own] == sorted(
        golden, key=[f"resnet.{slowfast(k)}" for k in own].index
    )
    assert len(own) == len(golden)


def test_a_trunk_without_spatial_kernels_takes_their_sums(tmp_path):
    trunk = random_trunk()
    torch.save({slowfast(key): value for key, value in trunk.state_dict().items()}, tmp_path / "i3d.pth")
    shape = TEMPORAL_ONLY.stages(3)
    other = ResNet3d(shape).eval()
    load_published(other, str(tmp_path / "i3d.pth"))
    for ours in ("stem.conv.weight", "stage3.0.spatial.conv.weight"):
        wanted = trunk.state_dict()[ours].numpy().sum((3, 4), keepdims=True)
        np.testing.assert_allclose(other.state_dict()[ours].numpy(), wanted, atol=1e-6)
    for ours in ("stage2.0.temporal.conv.weight", "stage4.1.last.norm.running_mean"):
        assert torch.equal(other.state_dict()[ours], trunk.state_dict()[ours])


def test_a_missing_file_is_one_sentence():
    with pytest.raises(
        WeightsError, match=r"no file nowhere\.pth, nor .*SlowFast.*or write pretrained: null"
    ) as caught:
        load_published(ResNet3d(TINY), "nowhere.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [
    {"conv1.weight": torch.zeros(())}, {"s1.pathway0_stem.conv.weight": torch.zeros(2)}, {"blocks.0.conv.weight": torch.zeros(0)},
])  # fmt: skip
def test_foreign_weights_are_refused_and_nothing_is_changed(tmp_path, state):
    torch.save(state, tmp_path / "foreign.pth")
    for shape in (TINY, TEMPORAL_ONLY):
        trunk = random_trunk(shape)
        before = {key: value.clone() for key, value in trunk.state_dict().items()}
        with pytest.raises(WeightsError, match=r"foreign\.pth does not hold the weights of this network"):
            load_published(trunk, str(tmp_path / "foreign.pth"))
        assert all(torch.equal(value, before[key]) for key, value in trunk.state_dict().items())


def test_blocks_computed_again_give_the_same_outputs_gradients_and_statistics():
    plain, saving = random_trunk(), ResNet3d(TINY, grad_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    found = []
    for trunk in (plain.train(), saving.train()):
        x = clip(2, 4, 3, 32, 32).requires_grad_()
        y = trunk(x)
        y.square().mean().backward()
        found.append([y, x.grad, *(p.grad for p in trunk.parameters()), *trunk.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert all(m.momentum == 0.1 for m in saving.modules() if isinstance(m, nn.BatchNorm3d))


def test_blocks_computed_again_keep_less():
    kept = []

    def remember(tensor):
        kept[-1] += tensor.numel()
        return tensor

    for saving in (False, True):
        kept.append(0)
        trunk = ResNet3d(TINY, saving).train()
        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            trunk(clip(1, 4, 3, 32, 32))
    assert kept[1] < 0.7 * kept[0]


def test_norms_of_every_kind_are_left_as_they_were():
    norms = [nn.BatchNorm3d(2, track_running_stats=False), nn.BatchNorm3d(2).eval(), nn.BatchNorm3d(2, momentum=None)]
    recomputed(nn.Sequential(nn.Conv3d(2, 2, 1), *norms), clip(1, 2, 2, 4, 4)).sum().backward()
    assert [norm.momentum for norm in norms] == [0.1, 0.1, None]
    assert [norms[1].num_batches_tracked.item(), norms[2].num_batches_tracked.item()] == [0, 1]


def test_filled_weights_of_the_golden_fit_exactly(tmp_path):
    golden = load_golden("i3d")
    torch.save(fill_state_dict(golden["keys"]), tmp_path / "I3D_8x8_R50.pth")
    with torch.device("meta"):
        trunk = ResNet3d(SHAPES["resnet3d50"])
    trunk.to_empty(device="cpu")
    load_published(trunk, str(tmp_path / "I3D_8x8_R50.pth"))
    assert sum(p.numel() for p in trunk.parameters()) == golden["params"] - 2049
