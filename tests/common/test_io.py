"""Files that are whole or not there, and nothing of a killed write beside them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.training_runs import environment

from common.io import atomic_path, atomic_write, remove_abandoned
from common.rundir import RunDir

_DIES = """
import os, signal, sys
from common.io import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_write(path: Path) -> Path:
    """Let a process die while it writes a file; return what it left."""
    before = set(path.parent.glob(".*"))
    done = subprocess.run([sys.executable, "-c", _DIES, str(path)], env=environment(), capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = set(path.parent.glob(".*")) - before
    return left


@pytest.mark.parametrize("name", ["next.pth", "FaceForensics++.json", "table", "manifest.tar.gz"])
def test_the_next_write_removes_what_a_killed_one_left(tmp_path, name):
    left, other = killed_write(tmp_path / name), killed_write(tmp_path / "other.pth")
    atomic_write(tmp_path / name, "whole")
    assert (tmp_path / name).read_text() == "whole"
    assert not left.exists()
    assert other.exists(), "it may belong to somebody else's file"


def test_a_file_that_is_being_written_is_not_taken_for_abandoned(tmp_path):
    path = tmp_path / "last.pth"
    with atomic_path(path) as first:
        first.write_text("first")
        atomic_write(path, "second")
        remove_abandoned(tmp_path)
        assert first.read_text() == "first"
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["last.pth"]


def test_files_of_other_kinds_stay(tmp_path):
    names = [".lock", ".bashrc", ".next.pth", ".next.pth.old.pth", ".next.pth.bwg1m_ec.txt", "next.pth.bwg1m_ec.pth"]
    for name in [*names, ".next.pth.bwg1m_ec.pth"]:
        (tmp_path / name).write_text("")
    remove_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_who_holds_a_run_directory_clears_it_of_killed_writes(tmp_path):
    run = RunDir(tmp_path)
    places = [
        tmp_path / "config.yaml",
        run.last,
        run.best,
        run.results / "results.json",
        run.results / "A/metrics.json",
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
    left = [killed_write(place) for place in places]
    run.take()
    try:
        assert [path for path in left if path.exists()] == []
    finally:
        run.release()
