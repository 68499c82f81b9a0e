"""STIL: agreement with the reference, its modules against plain NumPy, and that training does what it should."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, losses_of, overfit
from helpers.faces import face_batch
from helpers.pack import write_pack
from helpers.training_runs import arguments, call, differences
from helpers.training_runs import state as content

from common.errors import ConfigError, WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors.parts.stil import TALL, WIDE, Difference, Shift, Spatial, Supplement

TINY = {"backbone_name": "scnet_tiny", "resolution": 32, "clip_size": 3}


def tiny(**keys):
    return build("stil", **{**TINY, **keys})


def batch(size=4, frames=3):
    """Clips of still faces that a little noise moves."""
    faces = face_batch(size, 32)
    noise = torch.randn((size, frames, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    return {"image": faces["image"][:, None] + 0.05 * noise, "label": faces["label"]}


@pytest.fixture(scope="module")
def reference():
    return filled(build("stil"), prefix="module.")


def test_answers_as_the_reference(reference):
    # Its `feat` is the probability once more; ours is what the classifier reads.
    own = reference.forward
    reference.forward = lambda *args, **keys: (found := own(*args, **keys)) | {"feat": found["prob"]}
    try:
        check_outputs(reference, tolerance=1e-5)
    finally:
        del reference.forward


@pytest.mark.slow
def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def drawn(module, size, seed=0):
    """A module in evaluation with drawn weights, and a map `(6, 16, size, size)`: two clips of three frames."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.eval().double(), torch.randn(6, 16, size, size, dtype=torch.float64)


def test_frames_are_mixed_with_their_neighbours_and_at_first_shifted():
    module = Shift(16)
    x = torch.randn(6, 16, 2, 2)
    clips, moved = x.unflatten(0, (2, 3)), module(x, 3).detach().unflatten(0, (2, 3))
    assert torch.equal(moved[:, :-1, :2], clips[:, 1:, :2])  # the next frame's
    assert not moved[:, -1, :2].any()
    assert torch.equal(moved[:, 1:, 2:4], clips[:, :-1, 2:4])  # the previous frame's
    assert torch.equal(moved[:, :, 4:], clips[:, :, 4:])
    module, x = drawn(module, 2)
    conv = torch.nn.functional.conv1d(
        x.unflatten(0, (2, 3)).permute(0, 3, 4, 2, 1).reshape(-1, 16, 3), module.weight, padding=1, groups=16
    )
    wanted = conv.view(2, 2, 2, 16, 3).permute(0, 4, 3, 1, 2).flatten(0, 1)
    torch.testing.assert_close(module(x, 3), wanted)


@pytest.mark.parametrize("kernel", [TALL, WIDE])
def test_differences_are_of_neighbouring_frames_along_one_direction(kernel):
    module, x = drawn(Difference(16, 16, kernel), 5)
    along = (lambda a: a) if kernel == TALL else (lambda a: a.transpose(-1, -2))
    maps = along(x).numpy().reshape(2, 3, 16, 5, 5)  # height is the direction now

    def convolved(maps, weight, depthwise):
        padded = np.pad(maps, [(0, 0), (0, 0), (1, 1), (0, 0)])
        parts = [padded[:, :, i : i + 5] for i in range(3)]
        if depthwise:
            return sum(weight[None, :, 0, i, None, None] * part for i, part in enumerate(parts))
        return sum(np.einsum("oc,bchw->bohw", weight[:, :, i], part) for i, part in enumerate(parts))

    def weights(part, size):
        norm = part[1]
        gain = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().numpy()
        shift = norm.bias.detach().numpy()
        return part[0].weight.detach().numpy().reshape(*part[0].weight.shape[:2], size) * gain[:, None, None], shift

    move = module.move.weight.detach().numpy().reshape(16, 1, 3)
    steps = np.zeros_like(maps)
    for clip in range(2):
        moved = convolved(maps[clip], move, True)
        steps[clip, :2] = moved[1:] - maps[clip, :2]
    steps = steps.reshape(6, 16, 5, 5)
    fine_weight, fine_shift = weights(module.fine, 3)
    fine = convolved(steps, fine_weight, False) + fine_shift[:, None, None]
    half = (steps[:, :, 0:4:2] + steps[:, :, 1:4:2]) / 2  # five rows make two
    weight, shift = weights(module.coarse, 3)
    padded = np.pad(half, [(0, 0), (0, 0), (1, 1), (0, 0)])
    coarse = (
        sum(np.einsum("oc,bchw->bohw", weight[:, :, i], padded[:, :, i : i + 2]) for i in range(3))
        + shift[:, None, None]
    )
    coarse = coarse[:, :, [0, 0, 0, 1, 1]]
    weight, shift = weights(module.raise_, 1)
    up = np.einsum("oc,bchw->bohw", weight[:, :, 0], (steps + coarse + fine) / 3) + shift[:, None, None]
    wanted = along(torch.tensor(1 / (1 + np.exp(-up)) - 0.5))
    torch.testing.assert_close(module(x, 3).detach(), wanted, rtol=1e-4, atol=1e-6)


def test_what_supplements_is_weighed_by_neighbouring_channels():
    module, x = drawn(Supplement(), 3)
    means = np.pad(x.numpy().mean((2, 3)), [(0, 0), (1, 1)])
    mixed = sum(module.mix.weight[0, 0, i].item() * means[:, i : i + 16] for i in range(3))
    wanted = x.numpy() / (1 + np.exp(-mixed))[:, :, None, None]
    np.testing.assert_allclose(module(x).detach().numpy(), wanted, rtol=1e-6)


def test_the_spatial_gate_opens_by_the_map_and_a_coarse_view_of_it():
    module, x = drawn(Spatial(16, 1), 8)
    with torch.no_grad():
        _, told = module(x)
        level = module.along(module.across(x.unflatten(2, (2, 4)).unflatten(4, (2, 4)).mean((3, 5))).relu())
        gate = torch.sigmoid(x + level.repeat_interleave(4, 2).repeat_interleave(4, 3))
        torch.testing.assert_close(told, module.inner(x) * gate)


def test_loss_is_the_cross_entropy_of_the_mean_of_the_frames_logits():
    detector, clips = tiny().eval(), batch()
    with torch.no_grad():
        losses = losses_of(detector, clips, detector(clips))
    logits = detector(clips)["cls"].detach().double().numpy()
    wanted = np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, clips["label"].numpy())])
    assert losses["overall"].item() == pytest.approx(wanted, rel=1e-5)
    assert set(losses) == {"overall", "cls"}


def test_time_matters_and_clips_do_not_mix():
    detector, clips = tiny().eval(), batch(2)["image"]
    with torch.no_grad():
        whole = detector({"image": clips}, inference=True)["cls"]
        alone = detector({"image": clips[1:]}, inference=True)["cls"]
        turned = detector({"image": clips.flip(1)}, inference=True)["cls"]
    torch.testing.assert_close(whole[1:], alone)
    assert not torch.allclose(whole, turned, atol=1e-7)


def test_gradients_reach_everything():
    detector = tiny(resolution=64)
    faces = face_batch(4, 64)
    noise = torch.randn((4, 3, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    check_gradients(detector, {"image": faces["image"][:, None] + 0.3 * noise, "label": faces["label"]})
    assert all(p.requires_grad for p in detector.parameters())


def test_learns_a_handful_of_clips():
    assert overfit(tiny(), batch(6), steps=30, lr=2e-3) == 1.0


def test_checkpointing_changes_nothing_but_memory_not_even_running_statistics():
    clips = batch()
    plain, frugal = tiny(), tiny(grad_checkpointing=True)
    frugal.load_state_dict(plain.state_dict())
    runs = []
    frugal.trunk.layer2[0].register_forward_pre_hook(lambda *_: runs.append(1))
    for detector in (plain, frugal):
        detector.train().get_losses(clips, detector(clips))["overall"].backward()
    assert len(runs) == 2
    for (name, one), other in zip(plain.named_parameters(), frugal.parameters()):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4, msg=name)
    for (name, one), other in zip(plain.named_buffers(), frugal.buffers()):
        torch.testing.assert_close(one, other, msg=name)


def settings_of(folder):
    path = folder / "settings.yaml"
    lines = [f"{key}: {value}" for key, value in {**write_pack(folder), **TINY}.items()]
    path.write_text(
        "model_name: stil\npretrained: null\ntrain_dataset: [FaceForensics++]\ntrain_batchSize: 4\naccumulate: 2\n"
        "workers: 0\nframe_num: {train: 3, val: 3, test: 3}\nlabel_dict: {FF-real: 0, FF-DF: 1, FF-NT: 1}\nrec_iter: 1\n"
        "optimizer: {type: adam, adam: {lr: 0.001}}\nlr_scheduler: step\n" + "\n".join(lines)
    )
    return path


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    settings, whole, parts = settings_of(tmp_path), tmp_path / "whole", tmp_path / "parts"
    keys = {"max_steps": 3, "save_every_steps": 2, "keep_checkpoints": 3}
    assert call(arguments(settings, whole, **keys)) == 0
    kept = {content(path)["step"]: path for path in (whole / "checkpoints").glob("last*.pth")}
    assert call(arguments(settings, parts, "--resume", kept[2], **keys)) == 0
    one, other = (content(run / "checkpoints" / "last.pth") for run in (whole, parts))
    assert one["step"] == other["step"] == 3
    for name in ("model", "optimizer"):
        assert differences(one[name], other[name]) == [], name


# What SCNet calls the parts that STIL keeps.
SCNET = {
    "trace_in.0": "conv1_a", "trace_in.1": "bn1_a", "space_in.0": "conv1_b", "space_in.1": "bn1_b", "trace_out": "k1",
    "spatial.inner": "scconv.k3", "spatial.outer": "scconv.k4", "merge.0": "conv3", "merge.1": "bn3",
}  # fmt: skip


def scnet(trunk):
    """A trunk's state as SCNet's authors publish it: without STIL's parts, with those that it leaves out."""
    state = {"fc.weight": torch.zeros(1000, 8), "layer1.0.scconv.k2.1.weight": torch.zeros(8)}
    for key, value in trunk.state_dict().items():
        if any(part in key for part in (".temporal.", ".supplement.", ".shift.", ".across.", ".along.")):
            continue
        for ours, theirs in SCNET.items():
            key = key.replace(f".{ours}.", f".{theirs}.")
        state[key] = value
    return state


def test_imagenet_weights_of_scnet_load_all_or_none(tmp_path):
    state = scnet(tiny().trunk)
    torch.save(state, tmp_path / "scnet.pth")
    torch.manual_seed(1)
    loaded = build("stil", weights=str(tmp_path / "scnet.pth"), **TINY)
    block = loaded.trunk.layer3[0]
    assert torch.equal(block.trace_in[0].weight, state["layer3.0.conv1_a.weight"])
    assert torch.equal(block.spatial.outer[0].weight, state["layer3.0.scconv.k4.0.weight"])
    assert block.shift.weight[0].tolist() == [[0, 0, 1]]
    del state["layer2.0.scconv.k3.0.weight"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"missing, first `layer2\.0\.spatial\.inner"):
        build("stil", weights=str(tmp_path / "part.pth"), **TINY)


def test_without_its_weights_it_is_said_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr("training.networks.weights.PRETRAINED_DIR", tmp_path)
    with pytest.raises(WeightsError, match=r"put scnet50_v1d-4109d1e1\.pth into .*pretrained.* or write null"):
        build("stil", weights="scnet50_v1d", **TINY)


def test_its_files_and_the_field_s_load(tmp_path):
    paper = load_config(CONFIG_DIR / "detector" / "stil.yaml")
    assert (paper.clip_size, paper.train_batchSize, paper.optimizer.adam.lr) == (8, 10, 1e-3)
    benchmark = load_config(CONFIG_DIR / "detector" / "stil_benchmark.yaml")
    assert (benchmark.nEpochs, benchmark.optimizer.adam.lr, benchmark.mean) == (10, 2e-4, [0.5, 0.5, 0.5])
    path = tmp_path / "theirs.yaml"
    path.write_text(
        "model_name: stil\nlog_dir: /no/such/folder\npretrained: null\nbackbone_name: xception\nresolution: 224\n"
        "backbone_config: {mode: original, num_classes: 2, inc: 3, dropout: false}\nvideo_mode: True\nclip_size: 8\n"
    )
    assert load_config(path, quiet=True).backbone_name == "scnet50_v1d"
    with pytest.raises(ConfigError, match="reads clips"):
        load_config(path, ["video_mode=false"], quiet=True)
    with pytest.raises(ConfigError, match="clip_size"):
        load_config(path, ["clip_size=1"], quiet=True)
