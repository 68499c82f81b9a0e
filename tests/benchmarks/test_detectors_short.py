"""The short runs of the benchmark's detectors: which there are, and how their figures are read."""

import json

import numpy as np
import pytest

from benchmarks import detectors
from benchmarks.detectors import alive, fifths, losses, run, short_jobs, summary
from common.errors import DataError
from training.config import load_config

FIFTEEN = [
    "meso4", "meso4Inception", "resnet34", "xception", "efficientnetb4", "capsule_net", "fwa", "facexray", "ffd", "core",
    "recce", "ucf", "f3net", "spsl", "srm",
]  # fmt: skip


def test_all_have_keys_that_fit_and_the_field_s_fifteen_are_among_them():
    jobs = short_jobs()
    assert [job.title for job in jobs if job.title in FIFTEEN] == FIFTEEN
    assert [job.title for job in short_jobs(["ucf", "meso4"])] == ["meso4", "ucf"]
    for job in jobs:
        config = job.config()
        assert config.model_name == job.title
        assert config.pretrained is None
        assert config.rec_iter == 1
        assert config.max_steps >= 50
        # Each learns by its own recipe and losses.
        own = load_config(job.detector, quiet=True)
        assert (config.dataset_type, config.loss_func) == (own.dataset_type, own.loss_func)


def test_fifths_are_means_of_the_first_and_the_last_steps():
    values = np.arange(23.0)
    assert fifths(values) == (np.mean([0, 1, 2, 3]), np.mean([19, 20, 21, 22]))
    assert fifths(np.array([3.0])) == (3, 3)


def test_constant_and_broken_terms_are_not_alive():
    assert alive(np.array([1.0, 1.0, 0.5]))
    assert not alive(np.zeros(4))
    assert not alive(np.array([1.0, np.nan, 0.5]))


def write_run(job):
    """Write what a run of ten steps leaves behind: `cls` falls, `mask` is dead."""
    (job.run_dir / "results").mkdir(parents=True)
    (job.run_dir / "config.yaml").touch()
    lines = [{"step": i + 1, "loss/overall": 2 - i / 10, "loss/cls": 1 - i / 10, "loss/mask": None} for i in range(10)]
    lines.insert(5, {"step": 5, "val/auc": 0.5})
    lines.insert(0, {"step": 1, "loss/overall": 7.0, "loss/cls": 7.0, "loss/mask": None})  # begun twice
    (job.run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {"datasets": {"DemoCeleb": {"frame": {"auc": {"value": 0.625}}}}}
    (job.run_dir / "results" / "results.json").write_text(json.dumps(found))


def test_a_row_says_how_the_losses_fell(tmp_path, monkeypatch):
    monkeypatch.setattr(detectors, "RUNS", tmp_path)
    job = short_jobs(["meso4"])[0]
    write_run(job)
    assert list(losses(job.run_dir)) == ["overall", "cls", "mask"]
    row = summary(job)
    config = job.config()
    assert row["name"] == f"meso4, {config.resolution} px, 10 × {config.train_batchSize}"
    assert (row["reference"], row["ours"]) == (pytest.approx(1.95), pytest.approx(1.15))
    assert row["ratio"] == pytest.approx(1.95 / 1.15)
    assert row["agreement"].startswith("cls 0.95 → 0.15, mask nan → nan; AUC DemoCeleb 0.625; ")
    assert row["agreement"].endswith("; dead: mask")


def test_a_run_without_losses_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(detectors, "RUNS", tmp_path)
    job = short_jobs(["meso4"])[0]
    write_run(job)
    (job.run_dir / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match=r"metrics\.jsonl holds no losses"):
        summary(job)


def test_without_the_demos_faces_it_says_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="make demo-data"):
        run(quick=True)
