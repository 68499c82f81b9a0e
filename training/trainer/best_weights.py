"""The best weights of a run: one file and its record, which must be of each other.

A checkpoint carries the record as it was at its step. The file is the newest best of its folder, which may be that of a later
step: of a run that was killed between two writes, or that went back to an earlier checkpoint.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from common.errors import WeightsError
from common.io import atomic_path
from common.rundir import RunDir
from training.config.schema import Config
from training.trainer.checkpoint import read_checkpoint

log = logging.getLogger("clipdeepfake.train")
_MEASURE = ("metric_scoring", "metric_level", "train_dataset", "val_dataset")


def take_up(run: RunDir, path: Path, state: dict[str, Any], config: Config) -> dict[str, Any] | None:
    """Return the record of the best weights that a resumed run goes on with, whose file is then in its own directory.

    None, where the checkpoint has no record or its weights are gone: the next validation has none. A `best.pth` of other
    weights is set aside.

    Args:
        path: of the checkpoint, in this run's directory or another's. state: its content. config: of the run that goes on.
    """
    record, source = state["best"], path.with_name(run.best.name)
    reason = _unusable(source, record, state["config"], config) if record else ""
    if record and not reason:
        if source.resolve() != run.best.resolve():
            with atomic_path(run.best) as temporary:
                shutil.copyfile(source, temporary)
        return record
    if record:
        log.warning(
            "the best weights of step %d are not gone on with: %s; the best is searched for again",
            record["step"],
            reason,
        )
    if run.best.exists():
        run.best.replace(run.set_aside)
        log.warning("%s is not of this course of the training; it is set aside as %s", run.best, run.set_aside.name)
    return None


def _unusable(source: Path, record: dict[str, Any], before: dict[str, Any], config: Config) -> str:
    """Return why the file beside a checkpoint is not what its record is about, or why the record counts no more; else ''."""
    now = config.model_dump(mode="json")
    changed = [key for key in _MEASURE if before.get(key) != now.get(key)]
    if changed:
        return f"they were chosen by another {changed[0]}"
    if not source.exists():
        return f"{source} is not there"
    try:
        found = read_checkpoint(source).get("best")
    except WeightsError as error:
        return str(error)
    return "" if found == record else f"{source} holds the weights of step {found['step'] if found else 'unknown'}"
