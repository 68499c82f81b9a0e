"""The best weights and their record go together: into another run directory, and back to an earlier checkpoint."""

import json
import shutil

import pytest
import torch
from helpers.pack import write_pack
from helpers.training_runs import arguments, call, differences, state, write_settings

EPOCH = 7  # steps
UNTESTED = {"test_dataset": "[]"}  # a run that ends with its training


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    more = "workers: 0\ntest_dataset: [FaceForensics++]\nSWA: false\nema_decay: null\nsave_feat: false\n"
    path = write_settings(folder, write_pack(folder))
    own = [line.partition(":")[0] for line in more.splitlines()]
    kept = [line for line in path.read_text().splitlines() if line.partition(":")[0] not in own]
    path.write_text("\n".join(kept) + "\n" + more)
    return path


@pytest.fixture(scope="module")
def first(settings):
    """A run of two epochs."""
    run = settings.parent / "first"
    assert call(arguments(settings, run, "--max_steps", 2 * EPOCH)) == 0
    return run


@pytest.fixture
def copy(first, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(first, tmp_path / "first")


def checkpoint(run, name="last"):
    return run / "checkpoints" / f"{name}.pth"


def results_of(run):
    """Return what chose the weights that a run's results are of, after a look at their being there."""
    results = json.loads((run / "results" / "results.json").read_text())
    assert (run / "report.html").exists()
    assert list(results["datasets"]) == ["FaceForensics++"]
    return results["weights"], results["selection"]


def same(run, other):
    """See that two runs hold the same last and best weights, optimiser and record included."""
    for name in ("last", "best"):
        a, b = ({**state(checkpoint(each, name)), "config": None} for each in (run, other))
        assert differences(a, b) == []


def test_a_resume_into_another_directory_is_the_same_run(settings, first, copy, tmp_path):
    other = tmp_path / "other"
    assert call(arguments(settings, other, "--resume", checkpoint(first), "--max_steps", 2 * EPOCH)) == 0
    same(other, first)  # nothing was left to train
    assert results_of(other) == results_of(first)
    assert results_of(other)[0] == "checkpoints/best.pth"
    # And it is a run of its own, that can go on.
    for run in (other, copy):
        assert call(arguments(settings, run, "--resume", "auto", "--max_steps", 3 * EPOCH, **UNTESTED)) == 0
    same(other, copy)


def test_best_weights_that_are_gone_are_said_and_sought_anew(settings, copy, tmp_path, capsys):
    checkpoint(copy, "best").unlink()
    words = arguments(settings, tmp_path / "none_left", "--resume", checkpoint(copy), "--max_steps", 2 * EPOCH)
    assert call(words) == 0
    said = capsys.readouterr().err
    assert f"{checkpoint(copy, 'best')} is not there; the best is searched for again" in said
    weights, selection = results_of(tmp_path / "none_left")
    assert (weights, selection["split"]) == ("checkpoints/last.pth", "last")
    assert selection["note"].startswith("no validation score")
    words = arguments(settings, tmp_path / "more", "--resume", checkpoint(copy), "--max_steps", 3 * EPOCH, **UNTESTED)
    assert call(words) == 0
    assert state(checkpoint(tmp_path / "more", "best"))["step"] == 3 * EPOCH


def test_best_weights_of_a_lost_future_are_set_aside(settings, copy, capsys):
    future = state(checkpoint(copy, "best"))
    torch.save({**future, "step": 99, "best": {**future["best"], "step": 99, "value": 2.0}}, checkpoint(copy, "best"))
    assert call(arguments(settings, copy, "--resume", "auto", "--max_steps", 2 * EPOCH, **UNTESTED)) == 0
    said = capsys.readouterr().err
    assert "best.pth holds the weights of step 99; the best is searched for again" in said
    assert "it is set aside as best.aside.pth" in said
    assert not checkpoint(copy, "best").exists()
    assert state(checkpoint(copy, "best.aside"))["step"] == 99
    assert call(arguments(settings, copy, "--resume", "auto", "--max_steps", 3 * EPOCH, **UNTESTED)) == 0
    assert state(checkpoint(copy, "best"))["best"] == state(checkpoint(copy))["best"]
    assert state(checkpoint(copy, "best"))["step"] == 3 * EPOCH
    assert not checkpoint(copy, "best.aside").exists()


def test_a_best_score_of_another_measure_counts_no_more(settings, copy, capsys):
    assert state(checkpoint(copy))["best"]["value"] > 0
    words = arguments(settings, copy, "--resume", "auto", "--max_steps", 3 * EPOCH, metric_scoring="eer", **UNTESTED)
    assert call(words) == 0
    assert "they were chosen by another metric_scoring" in capsys.readouterr().err
    assert state(checkpoint(copy, "best"))["step"] == 3 * EPOCH


def test_checkpoints_newer_than_the_one_gone_back_to_do_not_stay(settings, copy):
    """Else they would be kept as the ones before the next, and be fallen back to."""
    assert state(checkpoint(copy, "last.1"))["step"] == EPOCH
    checkpoint(copy).write_bytes(checkpoint(copy).read_bytes()[:5000])
    assert call(arguments(settings, copy, "--resume", "auto", "--max_steps", 2 * EPOCH, **UNTESTED)) == 0
    assert [state(checkpoint(copy, name))["step"] for name in ("last", "last.1")] == [2 * EPOCH, EPOCH]
