"""Checkpoints: written whole, read without executing anything, and enough to rebuild the network without a dataset."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from training.dataset.info import DataInfo
from training.detectors.base import Detector
from training.errors import WeightsError
from training.io import atomic_path
from training.trainer.rundir import RunDir

log = logging.getLogger("clipdeepfake.train")

FORMAT = 1


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
        raise WeightsError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}); it may be truncated"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WeightsError(f"{path} is not a checkpoint of this project; use it with --weights_path instead")
    return content


def newest_checkpoint(wish: str | None, run: RunDir) -> Path | None:
    """Return the checkpoint that `--resume` means: None, the path given, or for `auto` the newest readable one of the run.

    A truncated newest file falls back to the one before it, with a warning.

    Raises:
        WeightsError: checkpoints exist, but none of them can be read.
    """
    if wish is None:
        return None
    if wish != "auto":
        return Path(wish)
    there = sorted(run.last.parent.glob("last*.pth"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in there:
        try:
            read_checkpoint(path)
            return path
        except WeightsError as error:
            log.warning("%s; trying the checkpoint before it", error)
    if there:
        raise WeightsError(
            f"none of the {len(there)} checkpoints in {run.last.parent} can be read; start anew elsewhere"
        )
    return None


def data_info_of(path: str | os.PathLike) -> DataInfo | None:
    """Return the data info that a weight file carries; None when it is somebody else's file."""
    if Path(path).suffix == ".safetensors":
        return None
    try:
        info = read_checkpoint(path).get("data_info")
    except WeightsError:
        return None
    return DataInfo.from_dict(info) if info else None
