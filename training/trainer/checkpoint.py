"""Checkpoints: written whole, read without executing anything, and enough to rebuild the network without a dataset."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from common.errors import ConfigError, ProjectError, WeightsError
from common.io import atomic_path
from common.rundir import RunDir
from training.batch import DataInfo
from training.config.schema import NOT_OF_A_SCORE, NOT_OF_THE_COURSE, Config
from training.detectors.base import Detector
from training.networks.weights import refusal

log = logging.getLogger("clipdeepfake.train")

FORMAT = 1
_STAGED = "next.pth"


def save_checkpoint(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write a checkpoint so that `path` holds the old file or the whole new one, also when the disk is full."""
    with atomic_path(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:
            # torch reports a full disk from C++, without an errno.
            raise OSError(str(error).splitlines()[0]) from error


def describe(detector: Detector) -> dict[str, Any]:
    """Return the part of a checkpoint that every reader needs: weights, configuration and data info."""
    return {
        "format": FORMAT,
        "model": detector.state_dict(),
        "config": detector.config.model_dump(mode="json"),
        "data_info": detector.data_info.to_dict() if detector.data_info else None,
        "training_state": detector.training_state(),
    }


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Return the content of one of our checkpoints, tensors on the CPU.

    Raises:
        WeightsError: missing, truncated, unsafe, or not written by this project.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"no such checkpoint: {path}") from error
    except Exception as error:
        raise refusal(path, error) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WeightsError(f"{path} is not a checkpoint of this project; use it with --weights_path instead")
    return content


def read_resumable(path: str | os.PathLike) -> dict[str, Any]:
    """Return the content of a checkpoint that training can go on from.

    Raises:
        WeightsError: it cannot be read, or holds weights only.
    """
    state = read_checkpoint(path)
    if not {"optimizer", "step"} <= state.keys():
        raise WeightsError(
            f"{path} holds weights only and cannot be resumed from; use last.pth, or --weights_path to test"
        )
    return state


def check_resumable(path: str | os.PathLike, detector: Detector) -> None:
    """Load a checkpoint's weights, to see before anything is written that this detector can go on from there.

    Raises:
        WeightsError: it cannot be read, holds weights only, or is of another network.
    """
    state = read_resumable(path)
    try:
        detector.load_weights(state["model"])
    except WeightsError as error:
        raise WeightsError(f"--resume {path}: {error}; resume with the settings that it was written with") from error


def newest_checkpoint(resume: str | None, run: RunDir) -> Path | None:
    """Return the checkpoint that `--resume` means: None, the path given, or for `auto` the newest readable one of the run.

    A truncated newest file falls back to the one before it, with a warning.

    Raises:
        ConfigError: the run directory holds the checkpoints of another training, which would be overwritten.
        WeightsError: checkpoints exist, but none of them can be read.
    """
    there = kept(run)
    own = resume == "auto" or (resume is not None and Path(resume).resolve().is_relative_to(run.path.resolve()))
    if there and not own:
        raise ConfigError(
            f"{run.path} holds the checkpoints of a training that this one would overwrite; add --resume auto to go on with "
            "it, or choose another --log_dir"
        )
    if resume != "auto":
        return Path(resume) if resume else None
    for path in there:
        try:
            read_checkpoint(path)
            return path
        except WeightsError as error:
            log.warning("%s; trying the checkpoint before it", error)
    if there:
        raise WeightsError(
            f"none of the {len(there)} checkpoints in {run.last.parent} can be read; begin again elsewhere"
        )
    return None


def kept(run: RunDir) -> list[Path]:
    """Return the resumable checkpoints of a run, newest first: `last.pth`, `last.1.pth`, …"""
    # One that was written whole, but that its run did not live to rename, is the newest.
    names = [run.last.with_name(_STAGED), run.last]
    older = {path: re.fullmatch(r"last\.(\d+)\.pth", path.name) for path in run.last.parent.glob("last.*.pth")}
    numbered = sorted((int(match[1]), path) for path, match in older.items() if match)
    return [path for path in (*names, *(path for _, path in numbered)) if path.exists()]


def save_newest(run: RunDir, content: dict[str, Any], keep: int, left: Collection[Path] = ()) -> None:
    """Write `last.pth`; the one before becomes `last.1.pth` and so on, and only the `keep` newest stay.

    The older ones move when the new one is safe on disk, so that a full disk or a kill at any moment leaves a good one.

    Args:
        left: checkpoints of a course of the training that was left, or that cannot be read; they go.

    Raises:
        ProjectError: the folder cannot be written or the disk is full.
    """
    staged = run.last.with_name(_STAGED)
    save_checkpoint(staged, content)
    try:
        for path in left:
            if path.name != staged.name:
                path.unlink(missing_ok=True)
        there = [path for path in kept(run) if path != staged]
        for path in there[keep - 1 :]:
            path.unlink()
        for number, path in reversed(list(enumerate(there[: keep - 1], start=1))):
            path.replace(run.last.with_name(f"last.{number}.pth"))
        staged.replace(run.last)
    except OSError as error:
        raise ProjectError(
            f"cannot rename checkpoints in {run.last.parent}: {error.strerror}; make the folder writable"
        ) from error


def changed_settings(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Return `key: old → new` for what differs between two configurations and changes the course of training."""
    changes = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changes += changed_settings(before, after, f"{prefix}{key}.")
        elif before != after and prefix + key not in NOT_OF_THE_COURSE:
            changes.append(f"{prefix}{key}: {before} → {after}")
    return changes


def fingerprint(config: Config, weights: Path) -> str:
    """Return a digest of what a score depends on besides the image: a weight file's bytes and the keys that say how it is used.

    Places, speed, what is kept, and what was said to the training leave it as it is.
    """
    kept = {key: value for key, value in config.model_dump(mode="json").items() if key not in NOT_OF_A_SCORE}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
    with open(weights, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def own_content(path: str | os.PathLike) -> dict[str, Any]:
    """Return the content of a checkpoint of this project; nothing for somebody else's weights."""
    if Path(path).suffix == ".safetensors":
        return {}
    try:
        return read_checkpoint(path)
    except WeightsError:  # whether they can be read at all is found out when they are loaded
        return {}


def data_info_of(path: str | os.PathLike) -> DataInfo | None:
    """Return the data info that a weight file carries; None when it is somebody else's file."""
    info = own_content(path).get("data_info")
    return DataInfo.from_dict(info) if info else None
