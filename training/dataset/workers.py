"""What a data-loading process does, and how it is found out that one died."""

from __future__ import annotations

import copy
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext

import numpy as np
import torch
from torch.utils.data import Dataset

from common.errors import DataError, ProjectError
from training.batch import Batch, Sample
from training.dataset.recipes.recipe import FrameReader, Recipe
from training.dataset.sampling import sample_rng


class WorkerDied(DataError):
    """A data-loading process ended before its work."""


@dataclass(frozen=True)
class Errand:
    """What a worker is asked for: everything that a sample depends on, so that workers can outlive an epoch."""

    epoch: int
    position: int
    draw: tuple[int, ...]


@dataclass(frozen=True)
class Failure:
    """A sample that could not be read; exceptions that cross processes lose their sentence."""

    video: str
    message: str


class Errands(Dataset):
    """Loads one draw. Holds no epoch and no list of draws: each worker gets what it is to do with every errand."""

    def __init__(self, recipe: Recipe, reader: FrameReader, seed: int, random: bool):
        self.recipe, self.reader, self.seed, self.random = recipe, reader, seed, random

    def __getitem__(self, wanted: Errand) -> list[Sample] | Failure:
        draw = np.array(wanted.draw)
        rng = sample_rng(self.seed, wanted.epoch, wanted.position) if self.random else None
        try:
            samples = self.recipe.load(draw, self.reader, rng)
        except ProjectError as error:
            return Failure(self.recipe.describe(draw), str(error))
        return [{**sample, "index": wanted.position} for sample in samples]


@dataclass
class Collate:
    """Makes a batch in the worker, together with what could not be read."""

    recipe: Recipe

    def __call__(self, items: list[list[Sample] | Failure]) -> tuple[Batch, list[Failure]]:
        good = [item for item in items if not isinstance(item, Failure)]
        failures = [item for item in items if isinstance(item, Failure)]
        return (self.recipe.collate(good) if good else self.recipe.empty()), failures


def quiet_worker(_: int) -> None:
    import cv2

    # Ctrl-C reaches every process of a terminal; whether to end is the main one's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process per core is the parallelism; threads inside each would fight over the same cores.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class LocklessEvent:
    """An event that PyTorch asks its workers to end by, and asks after.

    That of `multiprocessing` has a lock, and a worker that is killed while it looks at the event keeps the lock for ever.
    """

    def __init__(self) -> None:
        self._happened = multiprocessing.RawValue("b", 0)

    def is_set(self) -> bool:
        return bool(self._happened.value)

    def set(self) -> None:
        self._happened.value = 1


def worker_context(start_method: str | None) -> BaseContext:
    """Return how workers start, by name (None: the platform's way), so that none can take a lock into its grave."""
    context = copy.copy(multiprocessing.get_context(start_method))
    setattr(context, "Event", LocklessEvent)  # noqa: B010, of this copy alone
    return context


@contextmanager
def deaths_found_by_asking() -> Iterator[None]:
    """Keep PyTorch from watching its workers by a signal.

    Its handler raises wherever the main process happens to be, in the middle of a training step. Without it a death is found
    when the next batch does not come (within five seconds), where it can be answered with a sentence.
    """
    watches = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if watches else None
    try:
        yield
    finally:
        if watches:
            signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


def is_a_death(error: Exception) -> bool:
    """Return whether a worker died, rather than its code raised: that comes as `Caught … in DataLoader worker`."""
    # A worker that dies while it hands over a batch breaks the connection before PyTorch sees that it is gone.
    broken = isinstance(error, OSError | EOFError) and not str(error).startswith("Caught ")
    return broken or str(error).startswith("DataLoader worker (pid")
