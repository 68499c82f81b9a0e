"""Nothing is lost: killed runs continue to the same last bit, and a good checkpoint survives whatever happens to a new one."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from helpers.pack import write_pack
from helpers.said import only_error
from helpers.signals import NUMBERS, heeded_here, heeding
from helpers.training_runs import (
    ROOT,
    arguments,
    call,
    differences,
    environment,
    free_port,
    spawn,
    state,
    write_settings,
)

from common.errors import ProjectError, WeightsError
from common.rundir import RunDir
from training.trainer.checkpoint import newest_checkpoint, read_checkpoint, save_newest
from training.trainer.interruption import Interruption

STEPS = 70  # 7 an epoch, 10 epochs


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    return write_settings(folder, write_pack(folder))


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The uninterrupted run."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert call(arguments(settings, run)) == 0
    return run


def rows(run):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [row for row in map(json.loads, lines) if "loss/overall" in row]


def await_step(program, run, step, seconds=200):
    """Wait until a run has recorded a step."""
    path, until = run / "metrics.jsonl", time.monotonic() + seconds
    while time.monotonic() < until:
        if path.exists() and path.read_text().count('"loss/overall"') >= step:
            return
        assert program.poll() is None, "the program ended before"
        time.sleep(0.002)
    raise AssertionError(f"step {step} was not reached")


def same_end(run, other):
    """See that two runs end in the same state, averages and optimiser included, and chose the same best weights."""
    for name in ("last", "best", "swa", "ema"):
        a, b = (state(folder / "checkpoints" / f"{name}.pth") for folder in (run, other))
        assert a.pop("config").keys() == b.pop("config").keys()
        assert differences(a, b) == [], name
    assert state(run / "checkpoints" / "last.pth")["step"] == STEPS


def test_a_killed_run_continues_to_the_same_last_bit(settings, whole, tmp_path):
    run = tmp_path / "run"
    victim_step = int(np.random.default_rng().integers(4, 40))  # another one at every run of the test
    words = arguments(settings, run, save_every_steps=3)
    program = spawn(words)
    await_step(program, run, victim_step)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    program.stdout.close()
    program.stderr.close()
    saved = state(run / "checkpoints" / "last.pth")["step"]
    assert 3 <= saved < STEPS, "the run was to be killed on its way"
    # At once: the killed run's workers may still be there, and must not hold the directory.
    assert call([*words, "--resume", "auto"]) == 0
    same_end(run, whole)
    # Every step stands in the records once, with the same loss.
    recorded, wanted = ([(row["step"], row["loss/overall"]) for row in rows(folder)] for folder in (run, whole))
    assert recorded == wanted


@pytest.mark.parametrize(
    ("number", "everybody"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True)],  # a terminal, `kill`, a batch system
)
def test_a_signal_ends_the_run_with_a_checkpoint_of_its_last_step(settings, whole, tmp_path, number, everybody):
    run, words = tmp_path / "run", arguments(settings, tmp_path / "run")
    program = spawn(words)
    await_step(program, run, int(np.random.default_rng().integers(9, 40)))
    main = psutil.Process(program.pid)
    for process in [*main.children(), main] if everybody else [main]:
        process.send_signal(number)
    said = program.communicate(timeout=120)[1]
    assert program.returncode == 130, said
    assert "Traceback" not in said
    assert "stopping after this step" in said
    stopped = int(re.search(rf"stopped at step (\d+) of {STEPS}; --resume auto", said)[1])
    saved = state(run / "checkpoints" / "last.pth")["step"]
    # Without its workers a validation cannot end, and the epoch's checkpoint waits for it.
    assert saved == stopped or (number == signal.SIGTERM and everybody and stopped % 7 == 0 and saved == stopped - 7)
    assert call([*words, "--resume", "auto"]) == 0
    same_end(run, whole)


def test_a_second_signal_stops_at_once():
    with heeded_here():
        before = [signal.getsignal(number) for number in NUMBERS]
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGTERM)
            assert interruption.asked
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert [signal.getsignal(number) for number in NUMBERS] == before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGINT)
            assert not interruption.asked
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_programs_of_these_tests_heed_signals_that_the_tests_are_told_to_ignore():
    """As a script's background job is: `make test &`."""
    asks = "import signal; print(*(signal.getsignal(n) == signal.SIG_IGN for n in (signal.SIGINT, signal.SIGTERM)))"
    with heeded_here():
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)
        plain, heeded = (
            subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
            for line in ([sys.executable, "-c", asks], heeding([sys.executable, "-c", asks]))
        )
    assert (plain, heeded) == (["True", "True"], ["False", "False"])


def test_a_stop_in_the_middle_of_an_epoch_changes_nothing(settings, whole, tmp_path):
    run = tmp_path / "run"
    for stop in (10, 25, STEPS):
        # The learning rate is constant here, so that a smaller number of steps is a stop and nothing else (but for SWA's start).
        assert call(arguments(settings, run, "--resume", "auto", "--max_steps", stop)) == 0
        assert state(run / "checkpoints" / "last.pth")["step"] == stop
    a, b = (state(folder / "checkpoints" / "last.pth") for folder in (run, whole))
    assert a["step"] == STEPS
    for part in ("model", "optimizer"):
        assert differences(a[part], b[part]) == []
    assert differences(a["averages"]["ema"], b["averages"]["ema"]) == []


def test_the_loss_of_an_epoch_is_that_of_all_its_steps_wherever_it_was_cut(settings, tmp_path):
    run = tmp_path / "run"
    for stop in (3, 5, 9, 14):
        assert call(arguments(settings, run, "--resume", "auto", "--max_steps", stop, workers=0)) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = {row["step"]: row["loss/overall"] for row in lines if "loss/overall" in row}
    epochs = {row["step"]: row["epoch_loss/overall"] for row in lines if "epoch_loss/overall" in row}
    for step, first in ((3, 1), (5, 1), (9, 8), (14, 8)):
        wanted = np.mean([steps[number] for number in range(first, step + 1)])
        assert epochs[step] == pytest.approx(wanted, abs=1e-7)


def test_a_truncated_newest_checkpoint_falls_back_and_says_so(settings, whole, tmp_path, capsys):
    run = tmp_path / "run"
    assert call(arguments(settings, run, "--max_steps", 20, save_every_steps=6)) == 0
    newest, older = run / "checkpoints" / "last.pth", run / "checkpoints" / "last.1.pth"
    assert (state(newest)["step"], state(older)["step"]) == (20, 18)
    newest.write_bytes(newest.read_bytes()[:5000])
    capsys.readouterr()
    assert call(arguments(settings, run, "--resume", "auto")) == 0
    said = capsys.readouterr().err
    assert "last.pth is refused: it cannot be read" in said
    assert "trying the checkpoint before it" in said
    assert f"resumed from {older} at step 18 of {STEPS}" in said
    assert differences(state(newest)["model"], state(whole / "checkpoints" / "last.pth")["model"]) == []


def test_other_settings_than_before_are_said(settings, tmp_path, capsys):
    run = tmp_path / "run"
    assert call(arguments(settings, run, "--max_steps", 2)) == 0
    capsys.readouterr()
    assert call(arguments(settings, run, "--resume", "auto", "--max_steps", 3, **{"optimizer.adam.lr": 0.5})) == 0
    said = capsys.readouterr().err
    assert "written with other settings: max_steps: 2 → 3; optimizer.adam.lr: 0.002 → 0.5" in said
    # The new setting counts, not the checkpoint's.
    assert rows(run)[-1]["lr"] == 0.5
    assert call(arguments(settings, run, "--resume", "auto", "--max_steps", 4, **{"optimizer.type": "sgd"})) == 2
    assert "another optimiser" in capsys.readouterr().err


def checkpoint(step):
    return {"format": 1, "model": {"w": torch.full((1000,), float(step))}, "step": step}


def test_the_newest_k_are_kept(tmp_path):
    run = RunDir(tmp_path)
    for step in range(6):
        save_newest(run, checkpoint(step), keep=3)
    kept = sorted(path.name for path in run.last.parent.iterdir())
    assert kept == ["last.1.pth", "last.2.pth", "last.pth"]
    assert [read_checkpoint(run.last.with_name(name))["step"] for name in ("last.pth", *kept[:2])] == [5, 4, 3]
    save_newest(run, checkpoint(6), keep=1)
    assert [path.name for path in run.last.parent.iterdir()] == ["last.pth"]


def test_a_checkpoint_that_was_written_but_not_yet_renamed_is_the_newest(tmp_path):
    run = RunDir(tmp_path)
    save_newest(run, checkpoint(1), keep=2)
    torch.save(checkpoint(2), run.last.with_name("next.pth"))
    assert read_checkpoint(newest_checkpoint("auto", run))["step"] == 2
    save_newest(run, checkpoint(3), keep=2)
    assert sorted(path.name for path in run.last.parent.iterdir()) == ["last.1.pth", "last.pth"]


def test_without_any_readable_checkpoint_it_does_not_begin_anew_in_silence(tmp_path):
    run = RunDir(tmp_path)
    assert newest_checkpoint("auto", run) is None
    run.last.parent.mkdir()
    run.last.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(WeightsError, match="none of the 1 checkpoints"):
        newest_checkpoint("auto", run)
    with pytest.raises(WeightsError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "nowhere.pth")


_FILL = """
import resource, signal, sys
from pathlib import Path
import torch
from common import cli
from training.trainer.checkpoint import save_newest
from common.rundir import RunDir

def main():
    # No file may grow beyond this: the kernel refuses the write as it does on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    run = RunDir(Path(sys.argv[1]))
    save_newest(run, {"format": 1, "model": {"w": torch.zeros(10)}, "step": 1}, keep=2)
    save_newest(run, {"format": 1, "model": {"w": torch.zeros(1_000_000)}, "step": 2}, keep=2)

cli.run(main)
"""


def test_a_full_disk_is_one_sentence_and_the_last_good_checkpoint_survives(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path)], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    sentence = only_error(done.stderr)
    assert sentence.startswith("error: cannot write")
    assert "free some space" in sentence
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.pth"]
    assert read_checkpoint(newest_checkpoint("auto", RunDir(tmp_path)))["step"] == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    run = RunDir(tmp_path)
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(ProjectError, match="cannot write") as caught:
        save_newest(run, checkpoint(1), keep=2)
    assert "\n" not in str(caught.value)


# No BatchNorm, whose statistics would differ with the shares, and nothing random in the network.
_SPHERE = """
model_name: clip_ln
backbone_name: tiny
tuning: full
slerp: false
gather: true
SWA: false
workers: 0
optimizer: {type: sgd, sgd: {lr: 0.01, momentum: 0.9}}
"""


@pytest.fixture(scope="module")
def sphere(settings, tmp_path_factory):
    """The settings of a run that several processes do as one, and such a run's last checkpoint."""
    folder = tmp_path_factory.mktemp("sphere")
    own = [line.partition(":")[0] for line in _SPHERE.splitlines()]
    text = "\n".join(line for line in settings.read_text().splitlines() if line.partition(":")[0] not in own)
    yaml = folder / "settings.yaml"
    yaml.write_text(text + _SPHERE)
    assert call(arguments(yaml, folder / "run")) == 0
    return yaml, state(folder / "run" / "checkpoints" / "last.pth")


def agent(words, log, **variables):
    """Start train.sh, its words going to a file."""
    with log.open("w") as file:
        command = heeding(["bash", str(ROOT / "train.sh"), *words])
        return subprocess.Popen(command, env=environment(**variables), stdout=file, stderr=file)


def same_network(run, alone):
    # By SGD: Adam divides by a small gradient's size, and so makes of a sum's last bit a step as large as any.
    found = state(run / "checkpoints" / "last.pth")
    assert found["step"] == alone["step"] == STEPS
    for name, value in alone["model"].items():
        torch.testing.assert_close(found["model"][name], value, atol=5e-4, rtol=0, msg=name)


@pytest.mark.slow
def test_torchrun_restarts_after_a_killed_rank_and_continues(sphere, tmp_path):
    yaml, alone = sphere
    run, log = tmp_path / "run", tmp_path / "log"
    words = arguments(yaml, run, "--resume", "auto", save_every_steps=2)
    program = agent(words, log, GPUS="2", RESTARTS="1")
    try:
        await_step(program, run, 5)
        workers = [p for p in psutil.Process(program.pid).children() if "train.py" in " ".join(p.cmdline())]
        assert len(workers) == 2
        next(p for p in workers if p.environ()["RANK"] == "1").kill()
        code = program.wait(timeout=200)
    finally:
        program.terminate()
    assert code == 0, log.read_text()[-3000:]
    resumed = [line for line in log.read_text().splitlines() if line.startswith("resumed from")]
    assert len(resumed) == 1
    assert [row["step"] for row in rows(run)] == list(range(1, STEPS + 1))
    same_network(run, alone)


@pytest.mark.slow
def test_two_nodes_on_loopback_do_what_one_process_does(sphere, tmp_path):
    yaml, alone = sphere
    run, logs = tmp_path / "run", [tmp_path / f"node{rank}.log" for rank in range(2)]
    nodes = {"NODES": "2", "GPUS": "1", "MASTER": f"127.0.0.1:{free_port()}", "RUN_ID": str(os.getpid())}
    agents = [agent(arguments(yaml, run), log, NODE_RANK=str(rank), **nodes) for rank, log in enumerate(logs)]
    try:
        codes = [each.wait(timeout=200) for each in agents]
    finally:
        for each in agents:
            each.terminate()
    assert codes == [0, 0], "".join(log.read_text() for log in logs)[-3000:]
    same_network(run, alone)
