"""Two processes do what one does: the same gradients, the same curve, the same predictions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import engine_scenarios
from helpers.pack import write_pack
from helpers.training_runs import free_port

from common.errors import ConfigError
from training.trainer.distributed import Process, start

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """(alone, two, folder): every scenario's results of one process and of two, which start once for all tests."""
    folder = tmp_path_factory.mktemp("distributed")
    write_pack(folder)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "helpers.engine_scenarios", str(folder), str(folder)]
    two = [
        subprocess.Popen(command, env=environment | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = engine_scenarios.everything(Process(0, 1, torch.device("cpu")), folder, folder)
        errors = [process.communicate(timeout=240)[1] for process in two]
    finally:
        torch.set_num_threads(threads)
        for process in two:
            process.kill()
    assert [process.returncode for process in two] == [0, 0], errors
    return alone, torch.load(folder / "results.pth", weights_only=True), folder


def test_gradients_of_the_global_batch(results):
    alone, two, _ = results
    one, both = alone["gradients"], two["gradients"]
    assert one["gradients"].keys() == both["gradients"].keys()
    assert any(name.startswith("identity.") for name in one["gradients"])
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(both["gradients"][name], gradient, atol=1e-6, rtol=0, msg=name)
    assert {"cls", "alignment", "uniformity", "identity", "domain", "boundary"} < one["losses"].keys()
    assert both["losses"] == pytest.approx(one["losses"], abs=1e-6)


@pytest.mark.parametrize("name", engine_scenarios.FIRST_STEPS)
def test_first_step_of_a_detector_is_that_of_one_process(results, name):
    one, both = (found["first_steps"][name] for found in results[:2])
    assert both["losses"] == pytest.approx(one["losses"], rel=1e-6, abs=1e-7)
    assert both["gradients"].keys() == one["gradients"].keys()
    for key, gradient in one["gradients"].items():
        # A classifier's bias sums terms of order 0.1 that nearly cancel: float32 leaves 1e-8 of them.
        assert (both["gradients"][key] - gradient).norm() <= 1e-6 * gradient.norm() + 2e-8, key


@pytest.mark.parametrize("optimizer", ["adamw", "momentum"])
def test_the_loss_curve_of_twenty_steps(results, optimizer):
    one, both = (found[optimizer] for found in results[:2])
    assert len(one["curve"]) == 20
    assert both["curve"] == pytest.approx(one["curve"], abs=5e-5)
    assert one["curve"][-1] != pytest.approx(one["curve"][0], abs=1e-2)
    if optimizer == "momentum":
        torch.testing.assert_close(both["weights"], one["weights"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "tolerance"), [("sam", 1e-5), ("sam_accumulate", 1e-5), ("sam_bf16", 1e-2)])
def test_sam_takes_the_same_two_steps(results, name, tolerance):
    alone, two, _ = results
    torch.testing.assert_close(two[name]["weights"], alone[name]["weights"], atol=tolerance, rtol=0)
    assert not torch.allclose(alone[name]["weights"], engine_scenarios.flat(engine_scenarios.sphere()[0]), atol=1e-2)


def test_unreadable_samples_leave_the_mean_over_the_others(results):
    alone, two, _ = results
    assert two["unreadable"]["curve"] == pytest.approx(alone["unreadable"]["curve"], abs=2e-5)
    torch.testing.assert_close(two["unreadable"]["weights"], alone["unreadable"]["weights"], atol=1e-4, rtol=0)


def test_unused_parameters_are_searched_for_only_where_declared(results):
    alone, two, _ = results
    assert two["gradients"]["find_unused_parameters"] is False
    assert two["spare"]["find_unused_parameters"] is True
    torch.testing.assert_close(two["spare"]["weights"], alone["spare"]["weights"], atol=1e-6, rtol=0)


def test_not_a_number_on_one_process_stops_all_before_anything_moves(results):
    for found, count in zip(results, (1, 2), strict=False):
        assert len(found["bad"]["said"]) == count
        assert all("not finite at step 3" in said for said in found["bad"]["said"])
        assert found["bad"]["same"]


def test_a_whole_run_is_the_same_and_only_rank_0_writes(results):
    alone, two, folder = results
    torch.testing.assert_close(two["run"]["weights"], alone["run"]["weights"], atol=1e-4, rtol=0)
    runs = [
        [json.loads(line) for line in (folder / f"run{n}" / "metrics.jsonl").read_text().splitlines()] for n in (1, 2)
    ]
    curves = [[row["loss/overall"] for row in rows if "loss/overall" in row] for rows in runs]
    assert len(curves[0]) == 20
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)
    assert two["run"]["best"].keys() == alone["run"]["best"].keys()
    for n in (1, 2):
        # One file of events, and one more for the hyper-parameters; every step stands in the journal once.
        assert len(list((folder / f"run{n}" / "tensorboard").glob("events*"))) <= 2
        assert sorted(p.name for p in (folder / f"run{n}").iterdir()) == ["checkpoints", "metrics.jsonl", "tensorboard"]


@pytest.mark.parametrize("name", ["evaluation", "one_batch"])
def test_predictions_and_metrics_equal_those_of_one_process_exactly(results, name):
    alone, two, _ = results
    assert alone[name]["count"] % 2 == 1
    assert two[name] == alone[name]


def test_synchronised_batch_norm_needs_gpus_and_says_so(results):
    assert "sync_batchnorm" in results[1]["sync_batchnorm"]
    assert "CUDA" in results[1]["sync_batchnorm"]


def test_ddp_without_torchrun_says_what_to_call(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match=r"train\.sh"):
        start("cpu", ddp=True)
