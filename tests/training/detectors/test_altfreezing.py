"""AltFreezing: agreement with the reference, whose turn it is, what frozen kernels and the optimiser keep, and learning."""

import pytest
import torch
from helpers.clips import clip_batch
from helpers.detector_checks import build, check_gradients, check_outputs, filled, losses_of, overfit, quiet
from helpers.training_runs import check_resume
from parity.fill import load_golden, load_losses, make_batch

from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors.base import Clock
from training.detectors.registry import config_class
from training.trainer.distributed import Process
from training.trainer.step import Stepper

TINY = {"backbone_name": "resnet3d_tiny", "resolution": 32, "clip_size": 4}


def clock(step):
    return Clock(step, 100, 10)


def test_answers_as_the_reference():
    # The network is I3D's to the name of every weight, which answers with the same figures.
    own, other = load_golden("altfreezing"), load_golden("i3d")
    assert {k: own[k] for k in ("keys", "outputs")} == {k: other[k] for k in ("keys", "outputs")}
    detector = filled(build("altfreezing"), prefix="module.")
    answer = detector.forward
    detector.forward = lambda *args, **keys: dict.fromkeys(("cls", "prob", "feat"), answer(*args, **keys)["cls"])
    check_outputs(detector, tolerance=1e-5)


@pytest.mark.slow
def test_the_first_step_has_the_reference_s_gradients():
    record, detector = load_losses("altfreezing"), filled(build("altfreezing"))
    batch = make_batch(record["batch"], record["batch"]["image"][-1])
    losses = losses_of(quiet(detector), batch, detector(batch))
    assert losses["overall"].item() == pytest.approx(record["losses"]["overall"], rel=1e-4)
    losses["overall"].backward()
    detector.after_backward(clock(0))
    assert sum(p.grad is None for p in detector.parameters()) == len(record["without_grad"])
    norm = torch.stack([p.grad.double().norm() for p in detector.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(record["grad_norm_total"], rel=1e-4)


def test_the_first_step_freezes_what_the_reference_freezes():
    record, detector = load_losses("altfreezing"), build("altfreezing", **TINY)
    kernels = detector.trunk.kernels()["temporal"]
    names = {name for name, p in detector.named_parameters() if any(p is k for k in kernels)}
    assert all(name.endswith("temporal.conv.weight") for name in names)
    assert all(key.endswith("branch2.a.weight") for key in record["without_grad"])
    detector.train()
    batch = clip_batch()
    detector.get_losses(batch, detector(batch))["overall"].backward()
    detector.after_backward(clock(0))
    assert {name for name, p in detector.named_parameters() if p.grad is None} == names


def test_kernels_take_turns_and_everything_else_always_learns():
    detector, batch = build("altfreezing", **TINY).train(), clip_batch()
    kernels = detector.trunk.kernels()
    alternating = [*kernels["temporal"], *kernels["spatial"]]
    assert [detector.frozen(step) for step in (0, 1, 20, 21, 22, 41, 42)] == [
        "temporal", "spatial", "spatial", "temporal", "spatial", "spatial", "temporal",
    ]  # fmt: skip
    for step in (0, 1, 20, 21):
        detector.zero_grad()
        detector.get_losses(batch, detector(batch))["overall"].backward()
        whole = {name: p.grad.clone() for name, p in detector.named_parameters()}
        detector.after_backward(clock(step))
        still = kernels[detector.frozen(step)]
        assert all(kernel.grad is None for kernel in still)
        for name, p in detector.named_parameters():
            if not any(p is k for k in still):
                assert torch.equal(p.grad, whole[name]), name
        assert len(still) < len(alternating)


def test_turns_may_have_any_length():
    assert [build("altfreezing", freeze_spatial=2, freeze_temporal=3, **TINY).frozen(s) for s in range(6)] == (
        ["temporal"] * 3 + ["spatial"] * 2 + ["temporal"]
    )
    never = build("altfreezing", freeze_spatial=0, freeze_temporal=0, **TINY)
    assert never.frozen(7) is None
    never.after_backward(clock(7))
    assert {build("altfreezing", freeze_spatial=0, **TINY).frozen(s) for s in range(3)} == {"temporal"}


@pytest.mark.parametrize("optimizer", [
    {"type": "adam", "adam": {"lr": 0.01, "weight_decay": 0.1}},
    {"type": "sgd", "sgd": {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}},
    {"type": "sam", "sam": {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}},
])  # fmt: skip
def test_a_frozen_kernel_keeps_its_weights_and_the_optimiser_its_memory(optimizer):
    config = config_class("altfreezing")(
        model_name="altfreezing", pretrained=None, train_batchSize=6, accumulate=2, freeze_spatial=2, freeze_temporal=1,
        optimizer=optimizer, **TINY,
    )  # fmt: skip
    torch.manual_seed(0)
    detector = build("altfreezing", freeze_spatial=2, freeze_temporal=1, **TINY)
    stepper = Stepper(detector, config, Process(0, 1, torch.device("cpu")), 20, 5)
    kernels, memory = detector.trunk.kernels(), stepper.optimizer.state

    def remembered(parameter):
        return {key: torch.as_tensor(value).clone() for key, value in memory[parameter].items() if value is not None}

    for step in range(5):
        before = {k: [(p.detach().clone(), remembered(p)) for p in group] for k, group in kernels.items()}
        stepper.step(clip_batch(), step)
        still = detector.frozen(step)
        for kind, group in kernels.items():
            for parameter, (weight, kept) in zip(group, before[kind], strict=True):
                assert torch.equal(parameter, weight) == (kind == still)
                now = remembered(parameter)
                same = now.keys() == kept.keys() and all(torch.equal(now[key], kept[key]) for key in kept)
                assert same == (kind == still)


def test_gradients_reach_everything():
    check_gradients(build("altfreezing", **TINY), clip_batch())


def test_learns_a_handful_of_clips():
    assert overfit(build("altfreezing", dropout=0.0, **TINY), clip_batch(), steps=30, lr=3e-3) == 1.0


def test_a_resumed_run_ends_with_the_same_bits_in_the_same_turn(tmp_path):
    keys = {
        "backbone_name": "resnet3d_tiny",
        "dataset_type": "altfreezing",
        "freeze_spatial": 2,
        "recipe": {"kinds": ["drop", "repeat"]},
        "optimizer": {"type": "sgd", "sgd": {"lr": 0.01, "momentum": 0.9}},
    }
    check_resume(tmp_path, "altfreezing", 5, 2, frames=6, video_mode=True, clip_size=4, train_batchSize=2, **keys)


def test_its_files_and_the_field_s_load(tmp_path):
    names = ("altfreezing", "altfreezing_benchmark")
    paper, benchmark = (load_config(CONFIG_DIR / "detector" / f"{n}.yaml", quiet=True) for n in names)
    assert (paper.freeze_spatial, paper.freeze_temporal, paper.clip_size, paper.dataset_type) == (
        20,
        1,
        32,
        "altfreezing",
    )
    assert (benchmark.clip_size, benchmark.dataset_type, benchmark.optimizer.type) == (16, "clips", "adam")
    path = tmp_path / "theirs.yaml"
    path.write_text(
        "model_name: altfreezing\npretrained: training/pretrained/I3D_8x8_R50.pth\nbackbone_name: null\n"
        "backbone_config:\n mode: original\n num_classes: 1\n inc: 3\n dropout: false\n"
        "video_mode: True\nclip_size: 16\nframe_num: {'train': 300, 'test': 300}\nloss_func: cross_entropy\n"
    )
    assert load_config(path, quiet=True).backbone_name == "resnet3d50"
