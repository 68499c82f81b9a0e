"""FTCN: agreement with the reference, its transformer against plain NumPy, gradients, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.clips import clip_batch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.training_runs import check_resume
from parity.fill import fill_state_dict, load_golden
from scipy.special import erf

from common.errors import ConfigError, WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors.parts.ftcn import TemporalTransformer

TINY = {"backbone_name": "resnet3d_tiny", "resolution": 32, "clip_size": 4, "hidden": 64, "heads": 4}
SURE = {**TINY, "dropout": 0.0}


@pytest.fixture(scope="module")
def reference():
    return filled(build("ftcn"), prefix="module.")


def test_answers_as_the_reference(reference):
    own = reference.forward
    reference.forward = lambda *args, **keys: {
        k: v[:, None] if k == "prob" else v for k, v in own(*args, **keys).items()
    }
    try:
        check_outputs(reference, tolerance=1e-5)
    finally:
        del reference.forward


@pytest.mark.slow
def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def test_all_of_a_published_state_is_used():
    golden = load_golden("ftcn")
    with torch.device("meta"):
        own = build("ftcn").state_dict()
    assert (
        sum(value.numel() for key, value in own.items() if "num_batches" not in key and "running" not in key)
        == golden["params"]
    )


def layer_norm(x, norm):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * norm.weight.detach().double().numpy() + norm.bias.detach().double().numpy()


def linear(x, layer):
    y = x @ layer.weight.detach().double().numpy().T
    return y if layer.bias is None else y + layer.bias.detach().double().numpy()


def test_the_class_token_gathers_moments_by_attention():
    torch.manual_seed(0)
    net = TemporalTransformer(8, 5, 2, 2, 12, 0.1).eval()
    moments = torch.randn(3, 5, 8)
    x = np.concatenate([np.repeat(net.cls_token.detach().numpy(), 3, 0), moments.numpy()], axis=1).astype(np.float64)
    x = x + net.positions.detach().numpy()
    for block in net.blocks:
        query, key, value = np.split(linear(layer_norm(x, block.norm1), block.attn.qkv), 3, axis=-1)
        found = np.zeros_like(x)
        for head in (slice(0, 4), slice(4, 8)):
            weights = np.exp(query[..., head] @ key[..., head].transpose(0, 2, 1) / np.sqrt(4))
            found[..., head] = weights / weights.sum(-1, keepdims=True) @ value[..., head]
        x = x + linear(found, block.attn.proj)
        inner = linear(layer_norm(x, block.norm2), block.mlp.fc1)
        x = x + linear(inner * (1 + erf(inner / np.sqrt(2))) / 2, block.mlp.fc2)
    np.testing.assert_allclose(net(moments).detach().numpy(), layer_norm(x[:, 0], net.norm), atol=1e-5)


def test_the_loss_is_binary_cross_entropy_of_the_sigmoid():
    detector, batch = build("ftcn", **TINY).eval(), clip_batch()
    found = detector(batch)
    assert [tuple(found[key].shape) for key in ("cls", "prob", "feat")] == [(6, 1), (6,), (6, 128, 4, 1, 1)]
    p, y = found["cls"][:, 0].detach().double().numpy(), batch["label"].numpy()
    wanted = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    losses = detector.get_losses(batch, found)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx({"overall": wanted, "cls": wanted}, rel=1e-5)


def test_the_order_of_frames_counts_and_that_of_places_does_not():
    detector, image = build("ftcn", **SURE).eval(), clip_batch()["image"]
    with torch.no_grad():
        logit = detector({"image": image})["logit"]
        backwards = detector({"image": image.flip(1)})["logit"]
        # Blocks of 16 pixels, the trunk's stride, change places.
        moved = image[..., 16:, :], image[..., :16, :]
        feat, other = detector.features(image), detector.features(torch.cat(moved, dim=-2))
    assert not torch.allclose(logit, backwards, atol=1e-3)
    assert (feat - other).abs().mean() < 0.2 * feat.std()  # but for the stem's pooling, which laps over


def test_gradients_reach_everything():
    check_gradients(build("ftcn", **TINY), clip_batch())


def test_learns_a_handful_of_clips():
    assert overfit(build("ftcn", **SURE), clip_batch(), steps=40, lr=2e-3) == 1.0


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    keys = {"backbone_name": "resnet3d_tiny", "hidden": 64, "heads": 4, "grad_checkpointing": True}
    check_resume(tmp_path, "ftcn", 4, 2, frames=6, video_mode=True, clip_size=4, train_batchSize=2, **keys)


def test_longer_clips_than_it_was_built_for_are_a_sentence():
    detector = build("ftcn", **TINY).eval()
    with torch.no_grad():
        assert detector({"image": torch.zeros(1, 3, 3, 32, 32)})["prob"].shape == (1,)
        with pytest.raises(ConfigError, match="clips of 5 frames: this network was built with clip_size 4"):
            detector({"image": torch.zeros(1, 5, 3, 32, 32)})


def test_weights_of_other_clips_say_which_size_they_are_of(reference):
    golden = load_golden("ftcn")
    state = fill_state_dict(golden["keys"])
    state["resnet.head.time_T.pos_embedding"] = torch.zeros(1, 33, 1024)
    before = reference.head.weight.clone()
    with pytest.raises(WeightsError, match="clips of 32 frames, and clip_size is 16; set clip_size=32"):
        reference.load_weights(state)
    assert torch.equal(reference.head.weight, before)


def test_its_files_and_the_field_s_load(tmp_path):
    paper, benchmark = (
        load_config(CONFIG_DIR / "detector" / f"{n}.yaml", quiet=True) for n in ("ftcn", "ftcn_benchmark")
    )
    assert (paper.clip_size, paper.optimizer.type, paper.nEpochs, paper.lr_rise) == (32, "sgd", 100, 0.1)
    assert (benchmark.clip_size, benchmark.optimizer.type, benchmark.nEpochs) == (16, "adam", 10)
    path = tmp_path / "ftcn.yaml"  # what stands there in the file of that name
    path.write_text(
        "model_name: videomae\npretrained: ./training/pretrained/I3D_8x8_R50.pth\nbackbone_name: null\n"
        "backbone_config:\n mode: original\n num_classes: 1\n inc: 3\n dropout: false\n"
        "video_mode: True\nclip_size: 16\nframe_num: {'train': 300, 'test': 300}\nloss_func: cross_entropy\n"
    )
    theirs = load_config(path, quiet=True)
    assert (theirs.model_name, theirs.backbone_name, theirs.frame_num.train) == ("ftcn", "resnet3d50", 300)
    with pytest.raises(ConfigError, match=r"heads 12 do not divide the 1024 channels"):
        load_config(CONFIG_DIR / "detector" / "ftcn.yaml", ["heads=12"])
