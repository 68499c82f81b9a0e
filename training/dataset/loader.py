"""`build_loader`: batches of one split, the same whatever the number of workers and processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training.config.schema import Config
from training.dataset.index import Index, has_split, load_index
from training.dataset.info import DataInfo
from training.dataset.recipe import Batch, FrameReader, Recipe, Sample, recipe_class
from training.dataset.sampling import evaluation_batches, order, sample_rng, training_batches
from training.dataset.storage import open_storage
from training.errors import ConfigError, DataError, ProjectError

log = logging.getLogger("clipdeepfake.data")
Split = Literal["train", "val", "test"]
__all__ = ["Loader", "build_loader", "has_split"]


@dataclass
class _Failure:
    """An error that a worker met; exceptions that cross processes lose their sentence."""

    video: str
    message: str


class _Draws(Dataset):
    """Position in the epoch → loaded draw. One per epoch, handed to the workers as it is."""

    def __init__(self, recipe: Recipe, reader: FrameReader, rows: np.ndarray, seed: int, epoch: int, random: bool):
        self.recipe, self.reader, self.rows = recipe, reader, rows
        self.seed, self.epoch, self.random = seed, epoch, random

    def __getitem__(self, position: int) -> list[Sample] | _Failure:
        draw = self.rows[position]
        rng = sample_rng(self.seed, self.epoch, int(position)) if self.random else None
        try:
            samples = self.recipe.load(draw, self.reader, rng)
        except ProjectError as error:
            return _Failure(self.recipe.describe(draw), str(error))
        for sample in samples:
            sample["index"] = int(position)
        return samples


@dataclass
class _Collate:
    """Makes a batch in the worker, together with what could not be read."""

    recipe: Recipe

    def __call__(self, items: list[list[Sample] | _Failure]) -> tuple[Batch, list[_Failure]]:
        good = [item for item in items if not isinstance(item, _Failure)]
        failures = [item for item in items if isinstance(item, _Failure)]
        return (self.recipe.collate(good) if good else self.recipe.empty()), failures


def _quiet_worker(_: int) -> None:
    import cv2

    # One process per core is the parallelism; threads inside each would fight over the same cores.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


class Loader:
    """Iterates over one epoch's batches on this process.

    Attributes:
        index: the videos. info: names behind the integer labels. skipped: what could not be read, `data.on_error: skip`.
    """

    def __init__(self, config: Config, split: Split, index: Index, rank: int = 0, world_size: int = 1):
        self.config, self.split, self.index = config, split, index
        self.rank, self.world_size = rank, world_size
        training = split == "train"
        if training:
            self.recipe = recipe_class(config)(config, index, split)
        else:
            kind = "clips" if config.video_mode else "frames"
            plain = config.model_copy(update={"dataset_type": kind, "recipe": {}})
            self.recipe = recipe_class(plain)(plain, index, split)
        storages = [open_storage(config, name) for name in index.datasets]
        self.reader = FrameReader(index, storages, config, augment=training and config.use_data_augmentation)
        self.skipped: list[str] = []
        self._epoch = self._start = 0
        self._rows: tuple[int, np.ndarray] | None = None
        self._batch = self._draws_per_batch()

    def _draws_per_batch(self) -> int:
        key = "train_batchSize" if self.split == "train" else "test_batchSize"
        size, roles = getattr(self.config, key), self.recipe.roles
        if self.split != "train":
            return size
        if size % (roles * self.world_size):
            raise ConfigError(
                f"{key}={size} must be a multiple of {roles * self.world_size}: it is the batch over all {self.world_size} "
                f"processes, and the recipe `{self.recipe.name}` makes {roles} sample(s) per draw"
            )
        return size // roles

    @property
    def info(self) -> DataInfo:
        return self.index.info

    def _draws(self) -> np.ndarray:
        if self._rows is None or self._rows[0] != self._epoch:
            rows = self.recipe.draws(self.config.manualSeed, self._epoch)
            if self.split == "train":
                rows = rows[order(len(rows), self.config.manualSeed, self._epoch)]
            self._rows = (self._epoch, rows)
        return self._rows[1]

    def _batches(self) -> list[np.ndarray]:
        cut = training_batches if self.split == "train" else evaluation_batches
        return cut(len(self._draws()), self._batch, self.rank, self.world_size)

    def __len__(self) -> int:
        """Batches of a whole epoch on this process (in training the same on all)."""
        return len(self._batches())

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose the epoch that the next iteration runs over, and where in it it begins."""
        self._epoch, self._start = epoch, start_batch

    def __iter__(self) -> Iterator[Batch]:
        training = self.split == "train"
        draws = _Draws(self.recipe, self.reader, self._draws(), self.config.manualSeed, self._epoch, training)
        batches = [part.tolist() for part in self._batches()[self._start :]]
        # A process without a sample of a short batch still takes part in the step.
        workers = min(self.config.workers, len(os.sched_getaffinity(0)), max(1, len(batches)))
        if self.config.workers == 0:
            workers = 0
        loader = DataLoader(
            draws,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_Collate(self.recipe),
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_quiet_worker if workers else None,
            prefetch_factor=4 if workers else None,
        )
        iterator = iter(loader)
        while True:
            try:
                batch, failures = next(iterator)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" in str(error):
                    raise DataError(
                        "a data-loading worker died (out of memory, or killed); lower `workers` or the batch size"
                    ) from error
                raise
            self._account(failures)
            yield batch

    def _account(self, failures: list[_Failure]) -> None:
        if failures and self.config.data.on_error == "raise":
            raise DataError(failures[0].message)
        for failure in failures:
            self.skipped.append(f"{failure.video}: {failure.message}")
            log.warning("skipped %s: %s", failure.video, failure.message)


def build_loader(
    config: Config,
    split: Split,
    datasets: str | Sequence[str] | None = None,
    *,
    data_info: DataInfo | None = None,
    exclude: Collection[str] = (),
    rank: int = 0,
    world_size: int = 1,
) -> Loader:
    """Return the loader of a split.

    Args:
        config: the run's configuration.
        split: `train` shuffles, augments and follows the recipe; `val` and `test` read frames (or clips) in order.
        datasets: names; None: those of the configuration.
        data_info: the training set's, so that test labels get the same numbers.
        exclude: keys of videos to leave out, as `Index.same_video_keys` gives them.
        rank, world_size: this process's share.

    Raises:
        DataError: an index, split, compression or label is missing. ConfigError: batch size or recipe do not fit.
    """
    if datasets is None:
        datasets = {
            "train": config.train_dataset,
            "val": config.val_dataset or config.train_dataset,
            "test": config.test_dataset,
        }[split]
    names = [datasets] if isinstance(datasets, str) else list(datasets)
    index = load_index(config, names, split, data_info)
    if exclude:
        left_out = set(exclude)
        keep = np.array([key not in left_out for key in index.same_video_keys()], bool)
        if not keep.all():
            log.warning("%d %s videos stand in a test set too and are left out", int((~keep).sum()), split)
        index.keep(keep)
    return Loader(config, split, index, rank, world_size)
