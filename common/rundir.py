"""The run directory: one folder that holds everything about a run, and that only one run writes at a time."""

from __future__ import annotations

import os
import time
from pathlib import Path

from common.errors import ProjectError
from common.io import atomic_write, remove_abandoned


class RunDir:
    """Paths inside a run directory, and the right to write there."""

    def __init__(self, path: Path):
        self.path = path
        self._lock: int | None = None

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last.pth"

    @property
    def best(self) -> Path:
        return self.path / "checkpoints" / "best.pth"

    @property
    def set_aside(self) -> Path:
        """Best weights of a course of the training that was left, until there are new ones."""
        return self.path / "checkpoints" / "best.aside.pth"

    @property
    def results(self) -> Path:
        return self.path / "results"

    def take(self) -> None:
        """Make the directory and hold it until this process ends; what a killed run was just writing there is removed.

        Raises:
            ProjectError: it cannot be written, or another run is writing there now.
        """
        import fcntl

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise ProjectError(
                f"cannot write the run directory {self.path}: {error.strerror}; choose another one with --log_dir"
            ) from error
        try:
            # The kernel frees the lock with the process, however it ends; a stale file never blocks anybody. It is a record
            # lock, which data-loading workers do not inherit: those outlive a killed run by some seconds.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = None
            raise ProjectError(
                f"another run is writing {self.path} now; wait for it or choose another one with --log_dir"
            ) from error
        for folder in (self.path, self.last.parent, self.results, *self.results.glob("*/")):
            remove_abandoned(folder)

    def release(self) -> None:
        """Let others write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_config(self, text: str) -> None:
        """Keep the effective configuration, as YAML."""
        atomic_write(self.config, text)


def new_run_dir(given: str | None, parent: Path, *words: str | None) -> RunDir:
    """Return the directory that `--log_dir` names, or a fresh `<parent>/<time>_<word>_<word>…`."""
    if given:
        return RunDir(Path(given))
    stem = "_".join(part for part in (time.strftime("%Y-%m-%d-%H-%M-%S"), *words) if part)
    path, number = parent / stem, 1
    while path.exists():
        number += 1
        path = parent / f"{stem}_{number}"
    return RunDir(path)
