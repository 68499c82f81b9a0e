"""What `train.sh` starts: on one machine, on several, and under SLURM."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shell(tmp_path):
    """Call train.sh with stand-ins for python and scontrol, which tell what they are asked."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && echo 3 && exit\nfor word; do echo "$word"; done\n')
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$3" = "gpu[07-08]" ] && printf "gpu07\\ngpu08\\n"\n')
    for program in (python, scontrol):
        program.chmod(0o755)

    def run(*words, **variables):
        own = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
        own |= {"PYTHON": str(python), "PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
        return subprocess.run(["bash", str(ROOT / "train.sh"), *words], env=own, capture_output=True, text=True)

    return run


def options(done):
    """Return the launcher's options as a mapping, and the words after the program's name."""
    assert done.returncode == 0, done.stderr
    words = done.stdout.split("\n")[:-1]
    assert words[:2] == ["-m", "torch.distributed.run"]
    at = words.index("training/train.py")
    return dict(zip(words[2:at:2], words[3:at:2], strict=True)), words[at + 1 :]


def test_one_machine_takes_all_its_gpus(shell):
    found, rest = options(shell("--detector_path", "a b.yaml"))
    assert found["--nproc-per-node"] == "3"
    assert (found["--nnodes"], found["--node-rank"], found["--max-restarts"]) == ("1", "0", "0")
    assert rest == ["--ddp", "--detector_path", "a b.yaml"]
    assert options(shell(GPUS="2"))[0]["--nproc-per-node"] == "2"


def test_several_machines_meet_at_the_first(shell):
    found, _ = options(shell(NODES="2", NODE_RANK="1", MASTER="host0:29500", GPUS="8", RESTARTS="3"))
    assert found["--rdzv-endpoint"] == "host0:29500"
    assert (found["--nnodes"], found["--node-rank"], found["--nproc-per-node"]) == ("2", "1", "8")
    assert found["--max-restarts"] == "3"


def test_several_machines_without_the_first_s_address_are_refused(shell):
    done = shell(NODES="2", GPUS="1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "MASTER=host:port" in done.stderr


def test_slurm_tells_everything(shell):
    slurm = {"SLURM_NNODES": "2", "SLURM_NODEID": "1", "SLURM_JOB_NODELIST": "gpu[07-08]", "SLURM_JOB_ID": "40123"}
    found, _ = options(shell(**slurm, GPUS="4"))
    assert found["--rdzv-endpoint"] == "gpu07:20123"
    assert found["--rdzv-id"] == "40123"
    assert (found["--nnodes"], found["--node-rank"]) == ("2", "1")


def test_help_shows_every_form(shell):
    done = shell("--help")
    assert done.returncode == 0
    for word in ("NODES=2", "GPUS=4", "srun", "RESTARTS=3", "reproduce"):
        assert word in done.stdout
