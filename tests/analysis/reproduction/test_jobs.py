"""Which runs are done, and the command of those that are not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.signals import heeding

from analysis.reproduction import jobs
from analysis.reproduction.jobs import Job, command, is_done, run_missing
from common.errors import ConfigError, ProjectError
from training.config import load_config, save_config

ROOT = Path(jobs.__file__).parents[2]
YAML = str(ROOT / "training/config/detector/demo.yaml")


@pytest.fixture
def job(tmp_path):
    return Job("ours", YAML, 3, ("nEpochs=2", "losses.alignment=0"), tmp_path / "run")


def write_run(job, *overrides, tested=True):
    job.run_dir.mkdir(parents=True, exist_ok=True)
    config = load_config(job.detector, [*job.overrides, f"manualSeed={job.seed}", *overrides])
    save_config(config, job.run_dir / "config.yaml")
    if tested:
        (job.run_dir / "results").mkdir(exist_ok=True)
        (job.run_dir / "results/results.json").write_text(json.dumps({"datasets": {}}))


def test_command_line_carries_seed_folder_and_all_overrides(job):
    line = command(job, "cpu")
    expected = f"--detector_path {YAML} --log_dir {job.run_dir} --seed 3 --resume auto"
    assert line[2:] == f"{expected} --set nEpochs=2 --set losses.alignment=0 --device cpu".split()
    several = command(job, gpus=4)
    assert several[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    assert several[7:9] == ["--ddp", "--detector_path"]


def test_a_run_is_done_with_results_of_this_configuration(job):
    assert not is_done(job)
    write_run(job, tested=False)
    assert not is_done(job), "cut off before it was tested"
    write_run(job)
    assert is_done(job)


def test_where_and_how_fast_does_not_matter_but_what_does(job):
    write_run(job, "workers=0", "log_dir=elsewhere", "rec_iter=7")
    assert is_done(job)
    write_run(job, "optimizer.adamw.lr=0.5")
    with pytest.raises(ConfigError, match=r"optimizer\.adamw\.lr=0\.5, and optimizer\.adamw\.lr=0\.002 is asked for"):
        is_done(job)


def test_no_run_begins_when_one_is_of_other_settings(job, tmp_path, monkeypatch):
    other = Job("other", YAML, 0, (), tmp_path / "other")
    write_run(other, "nEpochs=99")
    started = []
    monkeypatch.setattr(jobs, "execute", lambda *a, **k: started.append(a))
    with pytest.raises(ConfigError, match="nEpochs"):
        run_missing([job, other])
    assert not started


def test_a_failed_run_says_its_last_line_and_keeps_its_output(job, monkeypatch):
    def train(line, log):
        log.write("reading\nerror: no such dataset\n")
        return 2

    monkeypatch.setattr(jobs, "execute", train)
    with pytest.raises(ProjectError, match=r"`ours` with seed 3 failed: error: no such dataset \(see .*console\.log\)"):
        run_missing([job])
    assert "reading" in (job.run_dir / "console.log").read_text()


_RUN = """
import sys, time
from pathlib import Path
try:
    Path(sys.argv[1], "began").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)  # it writes its checkpoint
    Path(sys.argv[1], "ended").touch()
"""


def test_ctrl_c_waits_until_the_run_has_ended(tmp_path):
    caller = "import sys; from analysis.reproduction import jobs; jobs.execute([sys.executable, '-c', *sys.argv[1:]], sys.stdout)"
    command = heeding([sys.executable, "-c", caller, _RUN, str(tmp_path)])
    program = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not (tmp_path / "began").exists() and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to both
    assert b"KeyboardInterrupt" in program.communicate(timeout=60)[1]
    assert (tmp_path / "ended").exists()
