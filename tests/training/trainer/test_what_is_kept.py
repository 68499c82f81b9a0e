"""What training keeps is right: the best by any metric, averaged weights with statistics of their own, the detector's state."""

import pytest
import torch
from helpers.engine_scenarios import pack_config
from helpers.pack import write_pack
from torch import nn

from common.rundir import RunDir
from training.config.schema import Config
from training.dataset import build_loader
from training.detectors.base import ClassificationDetector
from training.trainer import trainer as trainer_module
from training.trainer.checkpoint import fingerprint, read_checkpoint
from training.trainer.distributed import Process
from training.trainer.trainer import Trainer

CPU = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write_pack(folder)
    return folder


class Counting(ClassificationDetector):
    """A network with BatchNorm that carries a number from step to step, which is no parameter."""

    def __init__(self, config):
        super().__init__(config)
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU())
        self.head, self.seen = nn.Linear(8, 2), torch.zeros(3)

    def before_step(self, clock):
        self.seen = self.seen * 0.5 + clock.step

    def features(self, image):
        return self.trunk(image).amax((2, 3))

    def classifier(self, feat):
        return self.head(feat)

    def training_state(self):
        return {"seen": self.seen}

    def load_training_state(self, state):
        self.seen = state["seen"]


def make(data, folder, **keys) -> Trainer:
    base = pack_config(data, **{"test_batchSize": 8, "nEpochs": 3, "max_steps": None, "rec_iter": 2, **keys})
    fields = base.model_dump(include=set(Config.model_fields))
    detector = Counting(Config.model_validate({**fields, "model_name": "small"}))
    folder.mkdir(parents=True, exist_ok=True)
    train, val = build_loader(detector.config, "train"), build_loader(detector.config, "val")
    return Trainer(detector, detector.config, CPU, RunDir(folder), train, val)


@pytest.mark.parametrize(("metric", "wanted"), [("eer", 2), ("auc", 1)])
def test_the_best_checkpoint_has_the_lowest_eer_or_the_highest_auc(data, tmp_path, monkeypatch, metric, wanted):
    values = iter([0.4, 0.1, 0.3] if metric == "eer" else [0.8, 0.6, 0.7])

    def scored(*_, **__):
        value = next(values)
        return {level: {metric: {"value": value, "low": None, "high": None}} for level in ("frame", "video")}

    monkeypatch.setattr(trainer_module, "score_predictions", scored)
    run = make(data, tmp_path, metric_scoring=metric)
    run.fit()
    assert run.best["epoch"] == wanted
    assert read_checkpoint(run.run.best)["best"]["epoch"] == wanted


def test_averaged_weights_normalise_by_statistics_of_their_own(data, tmp_path):
    run = make(data, tmp_path, SWA=True, swa_start=0.0, use_data_augmentation=False, optimizer={"type": "sgd"})
    run.fit()
    norm = run.detector.trunk[1]
    present = norm.running_mean.clone()
    with run._weights_of("swa"):
        averaged = norm.running_mean.clone()
        # The equal mean over the training batches of what the averaged convolution gives.
        means = []
        for batch in run.train_loader:
            image = run.detector.prepare(batch)["image"]
            means.append(run.detector.trunk[0](image).mean((0, 2, 3)).detach())
        torch.testing.assert_close(averaged, torch.stack(means).mean(0), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(averaged, present, atol=1e-3)
    torch.testing.assert_close(norm.running_mean, present)


def test_a_resume_gives_the_detectors_own_state_back(data, tmp_path):
    first = make(data, tmp_path / "a")
    first.fit()
    assert first.detector.seen.sum() > 0
    second = make(data, tmp_path / "b")
    second.resume(first.run.last)
    torch.testing.assert_close(second.detector.seen, first.detector.seen)


def test_a_fingerprint_is_of_the_weights_bytes_too(tmp_path):
    config = Config(model_name="any")
    (tmp_path / "a.pth").write_bytes(b"one")
    (tmp_path / "b.pth").write_bytes(b"two")
    (tmp_path / "c.pth").write_bytes(b"one")
    of = {name: fingerprint(config, tmp_path / f"{name}.pth") for name in "abc"}
    assert of["a"] == of["c"] != of["b"]
    assert fingerprint(Config(model_name="any", resolution=64), tmp_path / "a.pth") != of["a"]
