"""Precision and speed switches change how the numbers are computed, not what they are."""

import math

import pytest
import torch
from helpers.clips import clip_batch
from helpers.detector_checks import build
from helpers.engine_scenarios import flat, rows, sphere
from torch import nn

from common.errors import ConfigError
from training.config.schema import Config
from training.detectors.base import ClassificationDetector
from training.detectors.registry import config_class
from training.trainer.distributed import Process
from training.trainer.precision import resolve
from training.trainer.step import Stepper, micro_batches

CPU = Process(0, 1, torch.device("cpu"))


class Convolutional(ClassificationDetector):
    """Convolutions, BatchNorm and a head."""

    def __init__(self, config):
        super().__init__(config)
        torch.manual_seed(0)
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Linear(16, 2)

    def features(self, image):
        return self.trunk(image).mean((2, 3))

    def classifier(self, feat):
        return self.head(feat)


def train(steps=4, build=Convolutional, **keys):
    """Return the detector, its stepper and the losses after some steps."""
    settings = {"model_name": "any", "train_batchSize": 8, "optimizer": {"type": "sgd", "sgd": {"lr": 0.05}}, **keys}
    detector = build(Config.model_validate(settings))
    stepper = Stepper(detector, detector.config, CPU, steps, steps)
    return detector, stepper, [stepper.step(rows(n), n)[0]["overall"] for n in range(steps)]


def assert_same(a, b, tolerance=1e-5):
    assert a[2] == pytest.approx(b[2], abs=tolerance)
    torch.testing.assert_close(flat(a[0]), flat(b[0]), atol=tolerance, rtol=0)


def test_bf16_trains_on_the_cpu_near_fp32():
    full, half = train(), train(precision="bf16")
    assert half[1].precision == "bf16"
    assert half[2] == pytest.approx(full[2], abs=0.02)
    assert half[2] != full[2]
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in half[0].parameters())


def test_auto_is_fp32_without_a_gpu():
    assert resolve("auto", torch.device("cpu")) == "fp32"


def test_fp16_scales_the_loss_and_trains_near_fp32():
    full, half = train(), train(precision="fp16")
    assert half[1].scaler.is_enabled()
    assert half[1].scaler.get_scale() > 1
    assert half[2] == pytest.approx(full[2], abs=0.02)
    assert "scale" in half[1].state()["scaler"]


def test_fp16_overflow_leaves_the_step_out_and_lowers_the_scale():
    detector, stepper, _ = train(steps=1, precision="fp16")
    stepper.scaler.update(new_scale=2.0**126)
    before, scale = flat(detector), stepper.scaler.get_scale()
    losses, _ = stepper.step(rows(1), 1)
    assert math.isfinite(losses["overall"])
    assert torch.equal(flat(detector), before)
    assert stepper.scaler.get_scale() < scale


def test_sam_under_fp16_is_sam():
    keys = {"optimizer": {"type": "sam", "sam": {"lr": 0.05, "rho": 0.05}}}
    full, half = train(**keys), train(precision="fp16", **keys)
    plain = train(optimizer={"type": "sgd", "sgd": {"lr": 0.05}})
    torch.testing.assert_close(flat(half[0]), flat(full[0]), atol=2e-3, rtol=0)
    assert not torch.allclose(flat(plain[0]), flat(full[0]), atol=1e-4)


def test_sam_second_pass_leaves_the_running_statistics_alone():
    keys = {"optimizer": {"type": "sam", "sam": {"lr": 1e-12, "momentum": 0.0, "rho": 0.5}}}
    sam, plain = train(steps=1, **keys), train(steps=1)
    for name, value in plain[0].named_buffers():
        torch.testing.assert_close(dict(sam[0].named_buffers())[name], value, msg=name)


@pytest.mark.parametrize("parts", [2, 4])
def test_sam_with_accumulation_equals_the_large_batch(parts):
    keys = {
        "optimizer": {"type": "sam", "sam": {"lr": 0.05, "rho": 0.05}}, "gather": False,
        "losses": {"alignment": 0.0, "uniformity": 0.0, "consistency": 0.0, "boundary": 0.3},
    }  # fmt: skip
    whole, cut = (train(build=lambda _, n=n: sphere(**keys, accumulate=n)[0]) for n in (1, parts))
    assert_same(whole, cut)


def test_channels_last_changes_the_layout_and_not_the_numbers():
    plain, last = train(), train(channels_last=True)
    assert last[0].trunk[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert_same(plain, last)


def test_channels_last_takes_kernels_over_frames_too():
    keys = {"backbone_name": "resnet3d_tiny", "resolution": 32, "clip_size": 4, "dropout": 0.0}
    detectors = [build("i3d", **keys) for _ in range(2)]
    losses = []
    for detector, last in zip(detectors, (False, True), strict=True):
        config = config_class("i3d")(model_name="i3d", pretrained=None, train_batchSize=2, channels_last=last, **keys)
        losses.append(Stepper(detector, config, CPU, 4, 4).step(clip_batch(2), 0)[0]["overall"])
    assert detectors[1].trunk.stem.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_compile_is_off_by_default_and_gives_the_same_numbers():
    assert Config(model_name="any").compile is False
    plain, compiled = train(), train(compile="aot_eager")
    assert type(compiled[1].module).__name__ == "OptimizedModule"
    assert_same(plain, compiled)
    assert list(plain[0].state_dict()) == list(compiled[0].state_dict())


def test_checkpointing_the_vit_gives_the_same_training():
    plain, frugal = (train(build=lambda _, c=c: sphere(grad_checkpointing=c)[0]) for c in (False, True))
    assert frugal[0].tower.grad_checkpointing
    assert_same(plain, frugal)


def test_too_many_micro_batches_are_refused_before_training():
    with pytest.raises(ConfigError, match="lower accumulate"):
        train(accumulate=9)


def test_where_samples_are_missing_stand_ins_keep_the_number_of_passes():
    found = micro_batches({**rows(0, 2), "roles": 1}, 4)
    assert [len(part["label"]) for part in found] == [1, 1, 1, 1]
    assert [part.get("stand_in", False) for part in found] == [False, False, True, True]


def test_fp16_clips_the_gradient_and_not_its_scaled_copy():
    clip, rate = 0.02, 0.05
    moved = {}
    for precision in ("fp32", "fp16"):
        keys = {
            "precision": precision,
            "grad_clip": clip,
            "optimizer": {"type": "sgd", "sgd": {"lr": rate, "momentum": 0.0}},
        }
        before = flat(Convolutional(Config(model_name="any", train_batchSize=8)))
        detector, stepper, _ = train(steps=1, **keys)
        moved[precision] = (flat(detector) - before)[: sum(p.numel() for p in stepper.parameters)]
    assert moved["fp32"].norm() == pytest.approx(rate * clip, rel=1e-2)
    assert moved["fp16"].norm() == pytest.approx(rate * clip, rel=5e-2)


def test_the_scale_of_fp16_is_taken_up_again():
    detector, stepper, _ = train(steps=1, precision="fp16")
    stepper.scaler.update(new_scale=128.0)
    again = Stepper(detector, detector.config, CPU, 1, 1)
    assert again.scaler.get_scale() != 128
    again.load_state(stepper.state())
    assert again.scaler.get_scale() == 128


class Dropping(Convolutional):
    """The same with a dropout that no two draws share."""

    def features(self, image):
        return nn.functional.dropout(super().features(image), 0.5, self.training)


def test_sam_drops_the_same_units_in_both_passes():
    """At a radius of next to nothing both passes are one, so SAM is its base optimiser."""
    sgd = {"lr": 0.05, "momentum": 0.0}
    plain = train(build=Dropping, optimizer={"type": "sgd", "sgd": sgd})
    sam = train(build=Dropping, optimizer={"type": "sam", "sam": {**sgd, "rho": 1e-9}})
    torch.testing.assert_close(flat(sam[0]), flat(plain[0]), atol=1e-5, rtol=0)
