"""The main job by its commands: train, test again, and every flag that the field's users type."""

import csv
import json
import shutil

import numpy as np
import pytest
from helpers.pack import write_pack
from helpers.training_runs import arguments, call, write_settings

from training import session, train
from training import test as testing


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = tmp_path_factory.mktemp("pack")
    return write_settings(root, write_pack(root), "test_dataset: [FaceForensics++]\n")


@pytest.fixture(scope="module")
def run(settings):
    folder = settings.parent / "run"
    words = arguments(settings, folder, "--max_steps", 6, "--seed", 3, "--set", "optimizer.adam.lr=0.003", workers=0)
    assert call(words) == 0
    return folder


def test_a_run_directory_holds_what_the_readme_says(run):
    for name in ("config.yaml", "train.log", "metrics.jsonl", "tensorboard", "report.html", "results/results.json"):
        assert (run / name).exists(), name
    assert (run / "checkpoints/last.pth").exists()
    folder = run / "results/FaceForensics++"
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    results = json.loads((run / "results/results.json").read_text())
    counts = results["datasets"]["FaceForensics++"]["counts"]
    assert len(rows) == counts["frames_real"] + counts["frames_fake"] == 10
    features = np.load(folder / "features.npz")
    assert len(features["feat"]) == len(rows)
    assert "lr: 0.003" in (run / "config.yaml").read_text()
    assert "manualSeed: 3" in (run / "config.yaml").read_text()


def test_testing_a_run_again_gives_the_same_figures(run, tmp_path):
    before = json.loads((run / "results/results.json").read_text())["datasets"]
    words = ["--detector_path", str(run), "--log_dir", str(tmp_path / "again"), "--device", "cpu", "--set", "workers=0"]
    assert call(words, testing.main) == 0
    after = json.loads((tmp_path / "again/results/results.json").read_text())["datasets"]
    assert after == before
    for name in ("predictions.csv", "metrics.json"):
        again = tmp_path / "again/results/FaceForensics++" / name
        assert again.read_bytes() == (run / "results/FaceForensics++" / name).read_bytes()


def test_another_test_set_joins_those_that_the_same_weights_were_tested_on(run, settings, tmp_path):
    write_pack(settings.parent, name="Celeb-DF-v2")
    here = tmp_path / "here"
    shutil.copytree(run, here)
    before = json.loads((here / "results/results.json").read_text())
    words = ["--detector_path", str(here), "--test_dataset", "Celeb-DF-v2", "--device", "cpu", "--set", "workers=0"]
    assert call(words, testing.main) == 0
    after = json.loads((here / "results/results.json").read_text())
    assert list(after["datasets"]) == ["FaceForensics++", "Celeb-DF-v2"]
    assert after["datasets"]["FaceForensics++"] == before["datasets"]["FaceForensics++"]
    assert (after["weights"], after["selection"]) == (before["weights"], before["selection"])
    # Figures of another normalisation do not belong into the same table.
    assert call([*words, "--set", "mean=[0.4, 0.4, 0.4]"], testing.main) == 0
    assert list(json.loads((here / "results/results.json").read_text())["datasets"]) == ["Celeb-DF-v2"]
    assert "held results of other weights or settings (FaceForensics++, Celeb-DF-v2)" in (here / "test.log").read_text()
    # Without earlier results the checkpoint itself says what chose it; damaged ones cost nobody the new figures.
    (here / "results/results.json").write_text("{")
    assert call(words, testing.main) == 0
    anew = json.loads((here / "results/results.json").read_text())
    assert list(anew["datasets"]) == ["Celeb-DF-v2"]
    assert {**anew["selection"], "note": ""} == {**before["selection"], "note": ""}
    assert "is not valid JSON" in (here / "test.log").read_text()


def test_another_training_does_not_overwrite_a_run(run, settings, tmp_path, capsys):
    here = tmp_path / "here"
    shutil.copytree(run, here)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    for more in ([], ["--resume", str(run / "checkpoints/last.pth")]):
        assert call(arguments(settings, here, "--max_steps", 8, *more, workers=0)) == 2
        assert "add --resume auto to go on with it, or choose another --log_dir" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
    assert call(arguments(settings, here, "--max_steps", 8, "--resume", "auto", workers=0)) == 0


@pytest.mark.parametrize("program", [train, testing])
def test_both_spellings_of_the_launchers_flag_are_taken(program):
    # torch.distributed.launch adds it by itself: with an underscore up to torch 1, with a dash from torch 2 on.
    for flag in ("--local_rank=1", "--local-rank=1"):
        assert program.parser().parse_args(["--detector_path", "x.yaml", "--ddp", flag]).ddp


def test_weights_by_their_file_give_the_same_predictions(run, settings, tmp_path):
    weights = next(path for name in ("best", "last") if (path := run / f"checkpoints/{name}.pth").exists())
    words = arguments(settings, tmp_path / "own", "--weights_path", weights, "--no-save_feat", workers=0)
    assert call(words, testing.main) == 0
    own = tmp_path / "own/results/FaceForensics++"
    assert (own / "predictions.csv").read_bytes() == (run / "results/FaceForensics++/predictions.csv").read_bytes()
    assert not (own / "features.npz").exists()


def test_training_begins_with_the_epoch_that_is_asked_for(settings, tmp_path):
    words = arguments(settings, tmp_path / "run", "--no-save_feat", workers=0, nEpochs=2, start_epoch=1)
    assert call(words) == 0
    told = (tmp_path / "run/train.log").read_text()
    assert "epoch 2:" in told
    assert "epoch 1:" not in told


def test_what_is_not_to_be_saved_is_not(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--no-save_ckpt", "--no-save_feat", "--task_target", "trial", "--max_steps", "2"]
    names = ["--train_dataset", "FaceForensics++", "--test_dataset", "FaceForensics++"]
    words = ["--detector_path", str(settings), "--device", "cpu", *flags, *names, "--set", "workers=0"]
    assert call([*words, "--set", f"log_dir={tmp_path}/logs"]) == 0
    (run,) = (tmp_path / "logs").rglob("config.yaml")
    assert "trial" in run.parent.name
    assert not list(run.parent.rglob("*.pth"))
    assert not list(run.parent.rglob("*.npz"))
    assert (run.parent / "results/results.json").exists()


@pytest.mark.parametrize("named", [False, True])
def test_without_a_detector_a_line_says_that_the_demo_trains(settings, tmp_path, monkeypatch, capfd, named):
    monkeypatch.setattr(session, "DEMO", settings)
    started = []
    monkeypatch.setattr(session, "_train", lambda args, config, process: started.append(capfd.readouterr().err))
    assert call((["--detector_path", str(settings)] if named else []) + ["--device", "cpu"]) == 0
    (said,) = started
    assert ("this trains the demo" in said) != named
    if not named:
        assert said.count("\n") == 1
        assert "on FaceForensics++, synthetic faces" in said
        assert "--detector_path training/config/detector/<name>.yaml" in said
    assert call(["--device", "cpu", "--train_dataset", "Mine"]) == 0
    assert "on Mine;" in started[1], "what the user names is not called synthetic"
