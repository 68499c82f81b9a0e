"""Calls `training/train.py` as a user does: in this process where that suffices, or as a program of its own."""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from common import cli
from helpers.pack import write_pack
from helpers.signals import heeding
from training import train

ROOT = Path(__file__).parents[2]
# BatchNorm, dropout, augmentation, workers, momentum: whatever has a state that a resume could lose.
SETTINGS = """model_name: meso4
pretrained: null
train_dataset: [FaceForensics++]
train_batchSize: 4
test_batchSize: 8
workers: 1
frame_num: {train: 4, val: 2, test: 2}
resolution: 32
nEpochs: 10
rec_iter: 1
SWA: true
swa_start: 0.3
ema_decay: 0.9
optimizer: {type: adam, adam: {lr: 0.002}}
label_dict: {FF-real: 0, FF-DF: 1, FF-NT: 1}
"""


def write_settings(folder: Path, places: dict[str, str], more: str = "") -> Path:
    """Write the YAML of a small run on a written pack; return its path."""
    path = folder / "settings.yaml"
    path.write_text(SETTINGS + "".join(f"{key}: {value}\n" for key, value in places.items()) + more)
    return path


def arguments(settings: Path, run: Path, *more: object, **keys: object) -> list[str]:
    """Return a command line of train.py; `keys` become `--set key=value`."""
    sets = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    return ["--detector_path", str(settings), "--device", "cpu", "--log_dir", str(run), *map(str, more), *sets]


@contextmanager
def as_program(words: list[str]) -> Iterator[None]:
    """Let this process look like a program that was called with these words, and undo what it changes here."""
    log, threads, said = logging.getLogger("clipdeepfake"), torch.get_num_threads(), sys.argv
    kept = log.level, log.propagate, list(log.handlers)
    torch.set_num_threads(1)
    sys.argv = ["train.py", *words]
    try:
        yield
    finally:
        sys.argv = said
        torch.set_num_threads(threads)
        for handler in [handler for handler in log.handlers if handler not in kept[2]]:
            log.removeHandler(handler)
            handler.close()
        log.setLevel(kept[0])
        log.propagate, log.handlers[:] = kept[1:]


def call(words: list[str], program: Callable[[], int | None] = train.main) -> int:
    """Run train.py's (or another program's) `main` in this process, through its own guard; return the exit code."""
    with as_program(words):
        try:
            cli.run(program)
        except SystemExit as stop:
            return int(stop.code or 0)
    raise AssertionError("the program did not end")


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a program that computes as this process does."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, **more}


def spawn(words: list[str], largest_file: int | None = None) -> subprocess.Popen:
    """Start train.py as a program of its own; with `largest_file` the kernel refuses to let a file grow beyond it."""
    limit = ["prlimit", f"--fsize={largest_file}"] if largest_file else []
    command = heeding([*limit, sys.executable, str(ROOT / "training" / "train.py"), *words])
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def state(path: Path) -> dict:
    """Return a checkpoint's content."""
    return torch.load(path, map_location="cpu", weights_only=True)


def differences(a: object, b: object, where: str = "") -> list[str]:
    """Return where two checkpoints' contents differ, to the last bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        found = [f"{where}/{key} is in one only" for key in a.keys() ^ b.keys()]
        return found + [line for key in a.keys() & b.keys() for line in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [line for i, pair in enumerate(zip(a, b)) for line in differences(*pair, f"{where}/{i}")]
    return [] if a == b else [where]


def check_resume(folder: Path, name: str, steps: int, cut: int, frames: int = 4, **keys: object) -> dict:
    """Train a detector once without a stop, and once from the checkpoint after `cut` steps: both must end with the same bits.

    Args:
        frames: of each video of the pack that is written for it.
        keys: of its YAML, besides the data.

    Returns:
        The content of the checkpoint that was resumed.
    """
    settings = {
        "model_name": name, "pretrained": None, "resolution": 32, "train_dataset": ["FaceForensics++"], "train_batchSize": 4,
        "workers": 0, "frame_num": {"train": 4, "val": 1, "test": 1}, "label_dict": {"FF-real": 0, "FF-DF": 1, "FF-NT": 1},
        "rec_iter": 1, "optimizer": {"type": "adam", "adam": {"lr": 0.001}}, **keys, **write_pack(folder, frames=frames),
    }  # fmt: skip
    path, whole, parts = folder / "settings.yaml", folder / "whole", folder / "parts"
    path.write_text(json.dumps(settings), encoding="utf-8")
    saving = {"max_steps": steps, "save_every_steps": cut, "keep_checkpoints": steps + 1}
    assert call(arguments(path, whole, **saving)) == 0
    (kept,) = (file for file in (whole / "checkpoints").glob("last*.pth") if state(file)["step"] == cut)
    assert call(arguments(path, parts, "--resume", kept, **saving)) == 0
    one, other = (state(run / "checkpoints" / "last.pth") for run in (whole, parts))
    assert one["step"] == steps
    found = differences({**one, "config": None}, {**other, "config": None})
    assert not found, f"{len(found)} values differ, first {found[0]}"
    return state(kept)
