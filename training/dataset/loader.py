"""`build_loader`: batches of one split, the same whatever the number of workers and processes."""

from __future__ import annotations

import copy
import logging
import os
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from common.errors import ConfigError, DataError
from training.batch import Batch, DataInfo
from training.config.schema import Config
from training.dataset.index.selection import Index, has_split, load_index
from training.dataset.recipes.recipe import FrameReader, Recipe, recipe_class
from training.dataset.sampling import EvaluationPlan, TrainingPlan, order
from training.dataset.storage import forgery_mask, open_storage
from training.dataset.workers import (
    Collate,
    Errand,
    Errands,
    Failure,
    WorkerDied,
    deaths_found_by_asking,
    is_a_death,
    quiet_worker,
    worker_context,
)

log = logging.getLogger("clipdeepfake.data")
Split = Literal["train", "val", "test"]
__all__ = ["Loader", "Split", "WorkerDied", "build_loader", "has_split"]


class _ErrandsOfEpoch(Sampler):
    """The errands of the epoch that the loader stands in, batch by batch, on this process."""

    def __init__(self, loader: Loader):
        # Weak, so that dropping the loader ends its workers at once.
        self.loader = weakref.proxy(loader)

    def __len__(self) -> int:
        return max(0, len(self.loader) - self.loader.start)

    def __iter__(self) -> Iterator[list[Errand]]:
        loader = self.loader
        epoch, (rows, shuffled), plan = loader.epoch, loader.draws(), loader.plan()
        for step in range(loader.start, len(plan)):
            # A process that has no sample of a short batch yields an empty one: it still takes part in the step.
            places = [(p, p if shuffled is None else shuffled[p]) for p in plan[step]]
            yield [Errand(epoch, p, tuple(rows[row].tolist())) for p, row in places]


class Loader:
    """Iterates over one epoch's batches on this process.

    Attributes:
        index: the videos. recipe: how samples are made. epoch, start: what the next iteration runs over.
        skipped: what could not be read and was left out, each once (`data.on_error: skip`).
        too_short: videos with fewer frames than a clip, which give no sample.
        start_method: how workers start, None for the platform's way.
    """

    def __init__(self, config: Config, split: Split, index: Index, rank: int = 0, world_size: int = 1):
        self.config, self.split, self.index = config, split, index
        self.rank, self.world_size = rank, world_size
        self.recipe = _recipe(config, split, index)
        storages = [open_storage(config, name) for name in index.datasets]
        self._training = split == "train"
        self.reader = FrameReader(index, storages, config, augment=self._training and config.use_data_augmentation)
        self.skipped: list[str] = []
        self.too_short = self.recipe.too_short()
        self._said_short = False
        self.epoch = self.start = 0
        self.start_method: str | None = None
        self._batch = self._draws_per_batch()
        self._rows: tuple[int, np.ndarray, np.ndarray | None] | None = None
        self._loader: DataLoader | None = None

    @property
    def info(self) -> DataInfo:
        """Names behind the integer labels."""
        return self.index.info

    def _draws_per_batch(self) -> int:
        if not self._training:
            return self.config.test_batchSize
        size, roles = self.config.train_batchSize, self.recipe.roles
        if size % (roles * self.world_size):
            raise ConfigError(
                f"train_batchSize={size} must be a multiple of {roles * self.world_size}: it is the batch over all "
                f"{self.world_size} process(es), and the recipe `{self.recipe.name}` makes {roles} sample(s) per draw"
            )
        return size // roles

    def draws(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the epoch's draws, and the order in which they come (None: as they are)."""
        if self._rows is None or self._rows[0] != self.epoch:
            seed = self.config.manualSeed
            rows = self.recipe.draws(seed, self.epoch)
            self._rows = self.epoch, rows, order(len(rows), seed, self.epoch) if self._training else None
        return self._rows[1:]

    def plan(self) -> TrainingPlan | EvaluationPlan:
        """Return which positions this process loads, batch by batch."""
        cut = TrainingPlan if self._training else EvaluationPlan
        return cut(len(self.draws()[0]), self._batch, self.rank, self.world_size)

    def __len__(self) -> int:
        """Batches of a whole epoch on this process (in training the same on all)."""
        return len(self.plan())

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose the epoch that the next iterations run over, and the batch that they begin with."""
        self.epoch, self.start = epoch, start_batch

    def in_order(self) -> Loader:
        """Return a loader of the same draws, each once, in their own order and without augmentation."""
        plain = copy.copy(self)
        plain._training, plain._batch, plain._rows, plain._loader = False, self.config.test_batchSize, None, None
        plain.reader = FrameReader(self.index, self.reader.storages, self.config, augment=False)
        plain.skipped, plain.epoch, plain.start = [], 0, 0
        return plain

    def _workers(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(self.config.workers, cores, max(1, len(self)))

    def _torch_loader(self) -> DataLoader:
        # The draws come first: what they leave on the recipe must be there when the workers start.
        self.draws()
        workers = self._workers()
        options: dict[str, Any] = {}
        if workers:
            # Test sets are read once, so their workers would only wait in memory for the end of the program.
            options = {"persistent_workers": self.split != "test", "prefetch_factor": 4}
            options |= {"worker_init_fn": quiet_worker, "multiprocessing_context": worker_context(self.start_method)}
        return DataLoader(
            Errands(self.recipe, self.reader, self.config.manualSeed, self._training),
            batch_sampler=_ErrandsOfEpoch(self),
            num_workers=workers,
            collate_fn=Collate(self.recipe),
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def __iter__(self) -> Iterator[Batch]:
        """Yield the epoch's batches from `start` on.

        Raises:
            DataError: a sample cannot be read and `data.on_error` is `raise`. WorkerDied: a worker process did.
        """
        if self._loader is None:
            self._loader = self._torch_loader()
        self._name_short_videos()
        with self._deaths_named(), deaths_found_by_asking():
            iterator = iter(self._loader)
        while True:
            with self._deaths_named():
                answer = next(iterator, None)
            if answer is None:
                return
            batch, failures = answer
            self._account(failures)
            yield batch

    def _name_short_videos(self) -> None:
        """Say once, at the first reading and thus in the run's log, which videos give no clip."""
        if self.too_short and not self._said_short:
            log.warning(
                "%d of %d %s videos have fewer than %s frames and give no clip: %s",
                len(self.too_short),
                len(self.index),
                self.split,
                self.config.clip_size,
                ", ".join(self.too_short),
            )
        self._said_short = True

    @contextmanager
    def _deaths_named(self) -> Iterator[None]:
        """Turn PyTorch's ways of meeting a dead worker into one sentence, in the middle of an epoch and between two."""
        try:
            yield
        except (RuntimeError, OSError, EOFError) as error:
            self._loader = None
            if is_a_death(error):
                raise WorkerDied(
                    f"a data-loading worker of the {self.split} split died (killed, or out of memory, or of shared memory "
                    "in a container); lower `workers` or the batch size"
                ) from error
            raise

    def _account(self, failures: list[Failure]) -> None:
        if failures and self.config.data.on_error == "raise":
            raise DataError(failures[0].message)
        for failure in failures:
            line = f"{failure.video}: {failure.message}"
            if line not in self.skipped:
                self.skipped.append(line)
                log.warning("skipped %s", line)


def _recipe(config: Config, split: Split, index: Index) -> Recipe:
    """Return the recipe of a split: the configured one in training, plain frames or clips otherwise."""
    if split == "train":
        return recipe_class(config)(config, index, split)
    plain = config.model_copy(update={"dataset_type": "clips" if config.video_mode else "frames", "recipe": {}})
    return recipe_class(plain)(plain, index, split)


def build_loader(
    config: Config,
    split: Split,
    datasets: str | Sequence[str] | None = None,
    *,
    data_info: DataInfo | None = None,
    exclude: Collection[str] = (),
    apart_from: Mapping[str, Index] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Loader:
    """Return the loader of a split.

    Args:
        config: the run's configuration.
        split: `train` shuffles, augments and follows the recipe; `val` and `test` read frames (or clips) in order.
        datasets: names; None: those of the configuration.
        data_info: the training set's, so that test labels get the same numbers.
        exclude: videos to leave out, by `Index.video_ids` or, under whatever dataset name, `Index.same_video_keys`.
        apart_from: indexes none of whose videos may be in the loader, under words for the log ("are in a test set").
        rank, world_size: this process's share.

    Videos that are trained on are left out of `val`, and named in `test`.

    Raises:
        DataError: an index, split, compression or label is missing. ConfigError: batch size or recipe do not fit.
    """
    named = {
        "train": config.train_dataset,
        "val": config.val_dataset or config.train_dataset,
        "test": config.test_dataset,
    }
    if split not in named:
        raise ConfigError(f"there is no split `{split}`; choose from {', '.join(named)}")
    names = named[split] if datasets is None else [datasets] if isinstance(datasets, str) else list(datasets)
    index = load_index(config, names, split, data_info)
    if exclude:
        pairs = zip(index.video_ids(), index.same_video_keys(), strict=True)
        _leave_out(
            index, np.array([not set(exclude).isdisjoint(names) for names in pairs], bool), split, "are excluded"
        )
    for words, other in (apart_from or {}).items():
        _leave_out(index, index.shared_with(other), split, words)
    if split == "val":
        _leave_out(index, _trained(config, index), split, "are trained on too")
    if split == "test":
        _warn_of_trained_videos(config, index)
    loader = Loader(config, split, index, rank, world_size)
    if split == "train" and config.with_mask:
        _warn_of_unknown_masks(loader)
    return loader


def _leave_out(index: Index, leave: np.ndarray, split: str, words: str) -> None:
    if leave.any():
        log.warning("%d of %d %s videos %s and are left out", leave.sum(), len(index), split, words)
        index.keep(~leave)


def _trained(config: Config, index: Index) -> np.ndarray:
    """Return which videos are trained on, `(N,)` bool; datasets that are not at hand are passed over."""
    found = np.zeros(len(index), bool)
    for name in config.train_dataset:
        try:
            found |= index.shared_with(load_index(config, [name], "train"))
        except DataError:
            continue  # whoever only tests need not have the training data at hand
    return found


def _warn_of_trained_videos(config: Config, index: Index) -> None:
    """Say when test videos were trained on: several public indexes list the same videos in both splits."""
    both = np.flatnonzero(_trained(config, index))
    if len(both):
        log.warning(
            "%d of %d test videos of %s were trained on, first %s; its figures say nothing of unseen videos",
            len(both),
            len(index),
            ", ".join(index.datasets),
            index.video_id(int(both[0])),
        )


def _warn_of_unknown_masks(loader: Loader) -> None:
    """Say whose masks are unknown, label by label, by the first frame of each: a wrong rgb_dir looks the same."""
    index, unknown = loader.index, []
    fakes = np.flatnonzero(index.label == 1)
    firsts = {index.label_name(int(video)): int(video) for video in fakes[::-1]}
    for label, video in firsts.items():
        try:
            if forgery_mask(loader.reader.storage(video), index, video, 0) is None:
                unknown.append(label)
        except DataError:
            continue  # met again, and said, when it is read
    if unknown:
        log.warning(
            "with_mask: no mask of %s is listed or lies beside the frames; such fakes have an unknown mask and count in no "
            "loss on masks",
            ", ".join(sorted(unknown)),
        )
