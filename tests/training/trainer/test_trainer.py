"""The loop around the step: which weights are kept, when it stops, what it writes, and how much it says."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from helpers.engine_scenarios import flat, pack_config
from helpers.pack import write_pack
from torch import nn

from common.cli import figures
from common.errors import ConfigError, DataError
from common.progress import Progress
from common.rundir import RunDir
from training.config.schema import Config
from training.dataset import build_loader
from training.detectors import build_detector
from training.detectors.base import ClassificationDetector
from training.detectors.registry import config_class
from training.trainer.checkpoint import read_checkpoint
from training.trainer.distributed import Process
from training.trainer.evaluator import predict
from training.trainer.journal import GradientWatch, log
from training.trainer.results import score
from training.trainer.step import NotFinite
from training.trainer.trainer import Trainer, counted

CPU = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write_pack(folder)
    return folder


class Small(ClassificationDetector):
    """A network with BatchNorm; `poison` makes its loss NaN from that step on."""

    poison = None

    def __init__(self, config):
        super().__init__(config)
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU())
        self.head, self.now = nn.Linear(8, 2), 0

    def before_step(self, clock):
        self.now = clock.step

    def features(self, image):
        return self.trunk(image).amax((2, 3))

    def classifier(self, feat):
        return self.head(feat)

    def get_losses(self, batch, prediction):
        losses = super().get_losses(batch, prediction)
        bad = self.poison is not None and self.now >= self.poison
        return {"overall": losses["overall"] * (math.nan if bad else 1), "cls": losses["cls"]}


def make(data, folder, detector=None, **keys):
    """Return a trainer on the pack, in its own run directory."""
    settings = {"test_batchSize": 8, "nEpochs": 3, "max_steps": None, "rec_iter": 2, **keys}
    base = pack_config(data, **settings)
    if detector is None:
        fields = base.model_dump(include=set(Config.model_fields))
        detector = Small(Config.model_validate({**fields, "model_name": "small"}))
    config = detector.config
    train, val = build_loader(config, "train"), build_loader(config, "val")
    folder.mkdir(parents=True, exist_ok=True)
    return Trainer(detector, config, CPU, RunDir(folder), train, val)


def scalars(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_weights_swa_and_ema_are_each_evaluated_and_the_best_is_kept(data, tmp_path):
    trainer = make(data, tmp_path, SWA=True, swa_start=0.3, ema_decay=0.8, metric_level="frame")
    trainer.fit()
    rows = scalars(tmp_path)
    kinds = {tag: [row[f"{tag}/auc"] for row in rows if f"{tag}/auc" in row] for tag in ("val", "val_swa", "val_ema")}
    assert {tag: len(values) for tag, values in kinds.items()} == {"val": 3, "val_swa": 3, "val_ema": 3}
    best = read_checkpoint(tmp_path / "checkpoints" / "best.pth")
    assert best["best"]["value"] == pytest.approx(max(max(values) for values in kinds.values()), abs=1e-7)
    # What was written scores what is said of it, statistics included.
    detector = Small(trainer.config)
    for name, wanted in (("best", best["best"]["value"]), ("swa", kinds["val_swa"][-1]), ("ema", kinds["val_ema"][-1])):
        detector.load_weights(tmp_path / "checkpoints" / f"{name}.pth")
        found = score(predict(detector, build_loader(trainer.config, "val"), CPU), trainer.config, "val", bootstrap=0)
        assert found["frame"]["auc"]["value"] == pytest.approx(wanted, abs=1e-7)


def test_evaluating_averages_leaves_training_as_it_was(data, tmp_path):
    plain = make(data, tmp_path / "plain")
    averaged = make(data, tmp_path / "averaged", SWA=True, swa_start=0.0, ema_decay=0.5)
    plain.fit(), averaged.fit()
    a, b = plain.detector.state_dict(), averaged.detector.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_training_stops_early_when_nothing_improves(data, tmp_path, caplog):
    log = logging.getLogger("clipdeepfake")
    log.propagate, kept = True, log.propagate
    # A rate of almost nothing: every validation after the first scores the same.
    optimizer = {"type": "sgd", "sgd": {"lr": 1e-12, "momentum": 0.0}}
    trainer = make(data, tmp_path, nEpochs=9, early_stopping=2, optimizer=optimizer)
    for layer in (trainer.detector.trunk[1],):
        layer.momentum = 0.0
    with caplog.at_level(logging.INFO, "clipdeepfake"):
        trainer.fit()
    log.propagate = kept
    assert trainer.step == 3 * trainer.steps_per_epoch
    assert "stopping early: no better validation score in 2 validations" in caplog.text
    assert trainer.best["epoch"] == 1


def test_a_loss_that_is_not_finite_stops_and_names_the_videos(data, tmp_path):
    trainer = make(data, tmp_path, save_every_steps=2)
    trainer.detector.poison = 5
    with pytest.raises(NotFinite, match="step 5"):
        trainer.fit()
    listing = json.loads((tmp_path / "bad_batch.json").read_text())
    loader = build_loader(trainer.config, "train")
    batch = list(loader)[5]
    assert listing["videos"] == batch["video"]
    assert listing["frames"] == batch["frame"].tolist()
    assert listing["values"]["overall"] == "nan"
    assert read_checkpoint(tmp_path / "checkpoints" / "last.pth")["step"] == 4
    assert all(torch.isfinite(p).all() for p in trainer.detector.parameters())


def test_a_gradient_that_is_not_finite_stops_too(data, tmp_path):
    trainer = make(data, tmp_path)
    before = flat(trainer.detector)
    trainer.detector.head.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NotFinite, match="gradient is not finite at step 0"):
        trainer.fit()
    assert torch.equal(flat(trainer.detector), before)
    assert (tmp_path / "bad_batch.json").exists()


def test_exploding_gradients_are_logged_and_not_at_every_step(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("clipdeepfake"), "propagate", True)
    watch = GradientWatch(every=50)
    with caplog.at_level(logging.WARNING, "clipdeepfake"):
        for step in range(1, 60):
            watch.see(step, 1.0 + 0.1 * (step % 3))
        assert caplog.text == ""
        for step in range(60, 100):
            watch.see(step, 400.0)
        watch.see(100, math.inf)
    assert len(caplog.records) == 1
    assert "step 60: the gradient's norm is 400, usually 1.1" in caplog.text


def test_the_log_of_a_healthy_run_is_short(data, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("clipdeepfake"), "propagate", True)
    with caplog.at_level(logging.INFO, "clipdeepfake"):
        make(data, tmp_path, nEpochs=3, rec_iter=1).fit()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 + 3
    assert all(
        line.startswith(f"epoch {n}: loss") and "validation" in line for n, line in enumerate(lines[1:], start=1)
    )


def test_tensorboard_shows_losses_rates_speed_memory_validation_inputs_maps_and_settings(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = pack_config(data, max_steps=6, rec_iter=1, optimizer={"type": "adamw", "layer_decay": 0.5})
    torch.manual_seed(0)
    trainer = make(data, tmp_path, build_detector(config, build_loader(config, "train").info, pretrained=False))
    trainer.fit()
    trainer.conclude({"Celeb-DF-v2": {"frame": {"auc": {"value": 0.625}}}})
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = board.Tags()
    names = {"overall", "cls", "alignment", "uniformity", "boundary", "identity"}
    wanted = {f"loss/{name}" for name in names} | {"lr", "lr/1", "images_per_second", "memory_gib", "grad_norm"}
    assert wanted | {"val/auc", "val/eer", "final/Celeb-DF-v2_auc", "final/val_auc"} <= set(tags["scalars"])
    assert board.Scalars("final/Celeb-DF-v2_auc")[0].value == 0.625
    assert [event.step for event in board.Scalars("loss/overall")] == [1, 2, 3, 4, 5, 6]
    assert board.Scalars("lr/1")[0].value == pytest.approx(0.5 * board.Scalars("lr")[0].value)
    assert 0.05 < board.Scalars("memory_gib")[0].value < 64
    assert {"inputs", "maps/boundary"} <= set(tags["images"])
    # The journal says the same.
    rows = {row["step"]: row for row in scalars(tmp_path) if "loss/overall" in row}
    for row in rows.values():
        parts = [value for name, value in row.items() if name.startswith("loss_weighted/")]
        assert len(parts) == len(names) - 1
        assert sum(parts) == pytest.approx(row["loss/overall"], abs=1e-5)
    for event in board.Scalars("loss/overall"):
        assert rows[event.step]["loss/overall"] == pytest.approx(event.value, rel=1e-5)


@pytest.mark.parametrize(
    ("value", "text"), [(0.04273, "0.0427"), (0.999, "0.999"), (12.34, "12.3"), (1234.4, "1234"), (0.0, "0")]
)
def test_speeds_have_three_significant_digits(value, text):
    assert figures(value) == text


def test_a_slow_run_does_not_say_that_it_does_nothing(data, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("clipdeepfake"), "propagate", True)
    caplog.set_level(logging.INFO, "clipdeepfake")
    trainer = make(data, tmp_path)
    trainer._end_epoch(0, {"overall": 0.5, "cls": 0.5, "weighted/cls": 0.5, "grad_norm": 1.0}, 0.0427)
    assert "epoch 1: loss 0.5000 = cls 0.5000, 0.0427 images/s" in caplog.text


@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_on_a_terminal_and_plain_lines_elsewhere(terminal, capsys, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("clipdeepfake"), "propagate", True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    progress = Progress(range(5), "epoch 1/2", 5, every=-1, say=log.info)
    with caplog.at_level(logging.INFO, "clipdeepfake"):
        for _ in progress:
            progress.note("loss 0.5")
    lines = [record.getMessage() for record in caplog.records]
    if terminal:
        assert lines == []
        assert "epoch 1/2" in capsys.readouterr().err
    else:
        assert len(lines) == 5
        assert lines[-1].startswith("epoch 1/2 5/5 loss 0.5")
        assert capsys.readouterr().err == ""


def probe(pack, **keys):
    """A linear probe on a small frozen tower."""
    names = ("rgb_dir", "dataset_json_folder", "lmdb_dir", "label_dict", "frame_num", "train_dataset", "workers")
    shared = pack_config(pack).model_dump(include=set(names))
    settings = {
        "model_name": "clip_linear", "backbone_name": "tiny", "pretrained": None, "resolution": 32, "rec_iter": 1,
        "train_batchSize": 5, "test_batchSize": 4, "nEpochs": 3, "use_data_augmentation": False,
        "optimizer": {"type": "adam", "adam": {"lr": 0.01}}, **shared, **keys,
    }  # fmt: skip
    torch.manual_seed(0)
    return build_detector(config_class("clip_linear")(**settings), None, pretrained=False)


def test_a_frozen_tower_runs_in_evaluation_and_without_gradients(data):
    detector = probe(data)
    detector.train()
    assert not detector.tower.training
    seen = []
    detector.tower.visual.ln_post.register_forward_hook(
        lambda layer, inputs, output: seen.append((torch.is_grad_enabled(), output.requires_grad))
    )
    batch = detector.prepare(next(iter(build_loader(detector.config, "train"))))
    detector.get_losses(batch, detector(batch))["overall"].backward()
    assert seen == [(False, False)]
    assert [name for name, p in detector.named_parameters() if p.grad is not None] == ["head.weight", "head.bias"]


def test_cached_features_train_the_same_and_read_each_frame_once(data, tmp_path, monkeypatch):
    runs = {}
    for cached in (False, True):
        detector = probe(data, cache_features=cached)
        read = []
        run = detector.tower._run
        monkeypatch.setattr(detector.tower, "_run", lambda image, inject, run=run, read=read: (
            read.append(len(image)), run(image, inject))[1])  # fmt: skip
        trainer = make(data, tmp_path / str(cached), detector)
        trainer.fit()
        runs[cached] = (
            flat(detector.head),
            [row.get("loss/overall") for row in scalars(tmp_path / str(cached))],
            sum(read),
        )
    torch.testing.assert_close(runs[True][0], runs[False][0], atol=1e-5, rtol=0)
    for a, b in zip(runs[True][1], runs[False][1], strict=True):
        assert a == (b if b is None else pytest.approx(b, abs=1e-5))
    frames = (
        28 + 3 * 3
    )  # of the training and of the validation set; without the cache five batches and validation thrice
    assert runs[True][2] == frames
    assert runs[False][2] == 3 * (5 * 5 + 9)


def test_cached_features_leave_out_what_cannot_be_read(tmp_path):
    write_pack(tmp_path)
    broken = next((tmp_path / "rgb").rglob("frames/054/007.png"))
    broken.write_bytes(b"no picture")
    detector = probe(tmp_path, cache_features=True, data={"on_error": "skip"})
    trainer = make(tmp_path, tmp_path / "run", detector)
    sizes = [len(batch["label"]) for batch in trainer.train_loader]
    assert sum(sizes) in (24, 25)  # 28 frames, of which the last three do not fill a batch
    assert len(trainer.train_loader.skipped) == 1
    trainer.fit()
    assert np.isfinite(flat(detector).numpy()).all()


def test_cached_features_of_nothing_readable_are_a_sentence(tmp_path):
    write_pack(tmp_path)
    for frame in (tmp_path / "rgb").rglob("frames/*/*.png"):
        frame.write_bytes(b"no picture")
    detector = probe(tmp_path, cache_features=True, data={"on_error": "skip"})
    trainer = make(tmp_path, tmp_path / "run", detector)
    with pytest.raises(DataError, match=r"not one frame of the training set could be read \(28 skipped, first .*no"):
        list(trainer.train_loader)


def test_cached_features_are_refused_where_they_would_be_wrong(data, tmp_path):
    with pytest.raises(ValueError, match="use_data_augmentation to false"):
        probe(data, cache_features=True, use_data_augmentation=True)
    with pytest.raises(ValueError, match="tuning to none"):
        probe(data, cache_features=True, tuning="layernorm")
    pairs = probe(data, cache_features=True, dataset_type="pairs", train_batchSize=6)
    with pytest.raises(ConfigError, match="recipe `frames`"):
        make(data, tmp_path, pairs)


@pytest.mark.parametrize(("shape", "unit"), [((2, 3, 8, 8), "images"), ((2, 4, 3, 8, 8), "clips")])
def test_pace_is_said_in_what_the_batch_holds(shape, unit):
    assert counted({"image": torch.zeros(shape, dtype=torch.uint8)}) == unit
    assert counted({"frozen": torch.zeros(2, 4)}) == "images"
