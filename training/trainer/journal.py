"""What a run writes while it goes: `train.log`, `metrics.jsonl`, TensorBoard, and a progress bar where somebody looks."""

import json
import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from common.errors import ProjectError
from common.io import atomic_write
from common.rundir import RunDir

log = logging.getLogger("clipdeepfake")


def open_log(path: Path | None, quiet: bool = False) -> None:
    """Send the project's messages to stderr and, where a path is given, to that file too.

    `quiet` is for the processes beside the main one: they speak up for warnings only.
    """
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    log.propagate = False
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    screen = _TqdmHandler()
    screen.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(screen)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        log.addHandler(file)


class _TqdmHandler(logging.Handler):
    """Writes lines above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class Journal:
    """The numbers of a run. Only the main process opens one that writes (`run` given); others pass None."""

    def __init__(self, run: RunDir | None):
        self.run = run
        self._board = None
        if run is not None:
            from torch.utils.tensorboard import SummaryWriter

            with self._answering():
                self._file = open(run.history_file, "a", encoding="utf-8")  # noqa: SIM115 - lives as long as the run
                self._board = SummaryWriter(str(run.board))

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn a disk that takes nothing more into a sentence."""
        try:
            yield
        except OSError as error:
            place = self.run.path if self.run else "the run directory"
            raise ProjectError(
                f"cannot write the records in {place}: {error.strerror or error}; free some space or choose another --log_dir, "
                "and continue from the last checkpoint with --resume"
            ) from error

    def rewind(self, step: int) -> None:
        """Forget what was recorded after a step that the run goes back to, so that every step stands there once."""
        if self._board is None or self.run is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        path = self.run.history_file
        with self._answering():
            self._file.close()
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
            atomic_write(path, "".join(f"{line}\n" for line in kept))
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - lives as long as the run
            self._board.close()
            self._board = SummaryWriter(str(self.run.board), purge_step=step + 1)

    def scalars(self, step: int, values: dict[str, float], **keys: Any) -> None:
        """Record named numbers at a step; not-finite ones become null in the JSON."""
        if self._board is None:
            return
        clean = {name: round(value, 8) if np.isfinite(value) else None for name, value in values.items()}
        with self._answering():
            self._file.write(json.dumps({"step": step, **keys, **clean}) + "\n")
            self._file.flush()
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def images(self, step: int, name: str, images: np.ndarray) -> None:
        """Show images `(N, 3, H, W)`, uint8 or floats in [0, 1]."""
        if self._board is not None and len(images):
            with self._answering():
                self._board.add_images(name, images, step)

    def hyperparameters(self, settings: dict[str, Any], metrics: dict[str, float]) -> None:
        """Record the settings beside the final metrics."""
        if self._board is not None and metrics:
            plain = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in settings.items()}
            with self._answering():
                self._board.add_hparams(plain, {f"final/{k}": v for k, v in metrics.items()}, run_name=".")

    def close(self) -> None:
        """Flush and close everything."""
        if self._board is not None:
            board, self._board = self._board, None
            with self._answering():
                board.close()
                self._file.close()


def _step_of(line: str) -> float:
    """Return the step of a recorded line; infinity for one that a kill cut off."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


class GradientWatch:
    """Warns when a gradient's norm explodes: beyond a thousand, or a hundred times what was usual; not at every step."""

    def __init__(self, every: int):
        self.every, self.usual, self.seen, self.told = every, 0.0, 0, 0

    def see(self, step: int, norm: float) -> None:
        """Look at the norm of a step; an infinite one is a scaler's overflow, which it handles."""
        if not np.isfinite(norm):
            return
        exploded = norm > 1e3 or (self.seen >= 10 and norm > 100 * self.usual)
        if exploded and (not self.told or step - self.told >= self.every):
            self.told = step
            log.warning(
                "step %d: the gradient's norm is %.3g, usually %.3g; consider grad_clip", step, norm, self.usual
            )
        if not exploded or not self.seen:
            self.seen += 1
            self.usual += (norm - self.usual) / min(self.seen, 100)
