from pathlib import Path

import pytest
import torch
from torch import nn

from analysis import efficiency
from analysis.efficiency import draw, mean_auc, multiply_adds, sheet, speed, synthetic_batch
from common.errors import ConfigError
from training.config.schema import Config

CLIP_LINEAR = Path(efficiency.__file__).parents[1] / "training/config/detector/clip_linear.yaml"


class Plain(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def prepare(self, batch):
        return {"image": batch["image"].float()}

    def forward(self, batch, inference=False):
        return self.network(batch["image"])


def test_multiply_adds_of_known_layers():
    batch = {"image": torch.zeros(1, 3, 16, 16)}
    convolution = Plain(nn.Conv2d(3, 5, 3, padding=1))
    assert multiply_adds(convolution, batch) == 16 * 16 * 5 * 3 * 9
    linear = Plain(nn.Sequential(nn.Flatten(), nn.Linear(768, 10)))
    assert multiply_adds(linear, {"image": torch.zeros(4, 3, 16, 16)}) == 4 * 768 * 10


def test_multiply_adds_of_a_vision_transformer_by_hand():
    """A frozen CLIP tower in evaluation mode: torch's fused attention must not hide its share."""
    from training.config import load_config
    from training.dataset import DataInfo
    from training.detectors import build_detector

    overrides = ["pretrained=null", "backbone_name=tiny", "resolution=32"]
    config = load_config(CLIP_LINEAR, overrides, quiet=True)
    info = DataInfo({}, {"real": 0, "fake": 1}, {"a": 0}, {"real": 1, "fake": 1})
    detector = build_detector(config, data_info=info, pretrained=False).eval()
    before = torch.backends.mha.get_fastpath_enabled()
    width, hidden, patches, blocks = 32, 64, 4 * 4, 2
    tokens = patches + 1
    embedding = patches * width * 3 * 8 * 8
    projections, products = tokens * 4 * width * width, 2 * tokens * tokens * width
    block = projections + products + 2 * tokens * width * hidden
    assert multiply_adds(detector, synthetic_batch(config, 3)) == 3 * (embedding + blocks * block + 2 * width)
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_speed_is_the_median_of_rates(monkeypatch):
    ticks = iter([0, 1, 10, 12, 20, 24])
    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: next(ticks))
    calls = []
    median, spread = speed(lambda: calls.append(1), 8, 3, 2, lambda: None)
    assert median == 4  # rates 8, 4, 2
    assert spread == 6
    assert len(calls) == 5


def test_batch_has_what_a_loader_gives():
    config = Config(model_name="x", resolution=24)
    batch = synthetic_batch(config, 5)
    assert batch["image"].shape == (5, 3, 24, 24)
    assert batch["image"].dtype == torch.uint8
    assert batch["label"].tolist() == [0, 0, 0, 1, 1]
    assert batch["mask"].shape == (5, 1, 24, 24)
    clips = synthetic_batch(Config(model_name="x", resolution=24, video_mode=True, clip_size=7), 2)
    assert clips["image"].shape == (2, 7, 3, 24, 24)
    assert clips["mask"].shape == (2, 7, 1, 24, 24)
    assert clips["landmark"].shape == (2, 7, 81, 2)
    assert torch.equal(batch["image"], synthetic_batch(config, 5)["image"])


def test_auc_of_a_run_is_the_mean_over_its_test_sets(run_dir, tmp_path):
    value, names = mean_auc(str(run_dir))
    from common.rundir import open_run

    aucs = [metrics["frame"]["auc"]["value"] for metrics in open_run(run_dir).datasets.values()]
    assert value == pytest.approx(sum(aucs) / 3)
    assert names.split() == list(open_run(run_dir).datasets)
    assert mean_auc(str(tmp_path / "x.yaml")) == (None, "")


def test_figure_with_and_without_auc(tmp_path):
    rows = [
        {
            "detector": n,
            "unit": "images",
            "parameters": p,
            "gmacs": p / 1e7,
            "auc": None,
            "inference_per_s": 1e9 / p,
            "inference_iqr": 1e7 / p,
        }
        for n, p in (("a", 1e6), ("b", 3e8))
    ]
    assert all(path.stat().st_size > 1000 for path in draw(rows, tmp_path / "speed"))
    assert all(path.stat().st_size > 1000 for path in draw([row | {"auc": 0.9} for row in rows], tmp_path / "auc"))


def made_row(name, auc, per_s=0.0427, iqr=0.008):
    costs = {"parameters": 2e6, "trainable": 1e6, "gmacs": 0.5, "checkpoint_mb": 8.0, "device": "CPU", "batch": 8}
    costs |= {"unit": "images", "input": "224²"}
    memory = {"memory_inference_mb": 1.0, "memory_training_mb": 2.0, "peak_inference_mb": 3.0, "peak_training_mb": 4.0}
    speeds = {f"{what}_{key}": v for what in ("inference", "training") for key, v in (("per_s", per_s), ("iqr", iqr))}
    return {"detector": name, "auc": auc, "auc_datasets": "", **costs, **memory, **speeds}


def test_spread_is_half_the_interquartile_range_wherever_it_is_shown(tmp_path, monkeypatch, capsys):
    row = made_row("slow", None)
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", NoPool)
    monkeypatch.setattr(efficiency, "measure", lambda *_: dict(row))
    monkeypatch.chdir(tmp_path)
    efficiency.main(["x.yaml", "--device", "cpu"])
    said = capsys.readouterr().out
    assert "0.0427 ± 0.0040 images/s (median ± half the interquartile range)" in said
    assert "training 0.0427 ± 0.0040" in said
    assert [path.name for path in tmp_path.iterdir()] == ["logs"], "nothing lands in the current folder itself"
    table = (tmp_path / "logs/efficiency/efficiency.md").read_text()
    assert table.count("0.0427 ± 0.0040") == 2
    assert "half their interquartile range" in table


class NoPool:
    """Runs what it is given at once, in this process."""

    def __init__(self, *_, **__): ...

    def __enter__(self):
        return self

    def __exit__(self, *_): ...

    def submit(self, work, *arguments):
        value = work(*arguments)
        return type("Done", (), {"result": staticmethod(lambda: value)})


def test_a_detector_without_results_is_named_where_the_figure_shows_auc(tmp_path, capsys):
    rows = [made_row("clip_ln", 0.9), made_row("xception", None)]
    draw(rows, tmp_path / "cost")
    assert "xception is not in the figure: it has no results" in capsys.readouterr().out
    assert "Not in the figure, since without results there is no AUC: xception." in sheet(rows).caption
    for known in (0.9, None):
        assert "Not in the figure" not in sheet([made_row("a", known), made_row("b", known)]).caption


def test_one_clip_at_a_time_and_a_training_step_with_its_optimiser():
    """Adam keeps two numbers a weight, which the peak of training holds; images and clips stand in one table."""
    small = ["backbone_name=resnet3d_tiny", "resolution=32", "clip_size=4"]
    row = efficiency.measure(str(CLIP_LINEAR.with_name("i3d.yaml")), small, "cpu", 1, 1)
    assert (row["unit"], row["input"], row["batch"]) == ("clips", "4 × 32²", 1)
    assert row["peak_training_mb"] >= row["peak_inference_mb"] > row["memory_inference_mb"] >= 0
    table = sheet([row | {"auc": None}, made_row("xception", None)])
    assert all(len(line) == len(table.columns) for line in table.rows)
    assert "of 1 random images or clips" in table.caption


def test_bad_requests():
    with pytest.raises(ConfigError, match="--batch"):
        efficiency.main(["x.yaml", "--batch", "0"])
    with pytest.raises(ConfigError, match="--batch must be at least 2"):
        efficiency.measure(str(CLIP_LINEAR.with_name("meso4.yaml")), [], "cpu", 1, 1)
