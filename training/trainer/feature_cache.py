"""Train on what a frozen trunk makes of each image, computed once: later epochs read no image and run no trunk.

The features are those of the stored frame. Augmentation would be frozen with them, so it must be off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from common.errors import ConfigError, DataError
from common.progress import Progress
from training.batch import PIXELS, Batch, DataInfo
from training.dataset.loader import Loader
from training.detectors.base import Detector
from training.trainer.distributed import Process, flatten
from training.trainer.journal import log
from training.trainer.precision import autocast


class CachedLoader:
    """Yields a loader's batches with `frozen` `(B, D)` float32 on the CPU in the place of `image`.

    The first iteration reads every frame once, each process its share, and every process keeps all features: 4·D bytes a
    frame (ViT-L-14: 4 KiB). Order, epochs, shares and resuming are the loader's own.

    Raises:
        ConfigError: the loader augments, or its recipe makes other samples in every epoch.
    """

    def __init__(self, loader: Loader, detector: Detector, process: Process):
        if loader.recipe.name != "frames" or loader.reader.augmentation is not None:
            raise ConfigError(
                "cache_features: features are computed once from the stored frames, which suits the recipe `frames` without "
                "augmentation; set use_data_augmentation to false and leave dataset_type out, or cache_features to false"
            )
        self.loader, self.detector, self.process = loader, detector, process
        self._table: dict[str, Any] | None = None
        self._place: np.ndarray | None = None

    @property
    def info(self) -> DataInfo:
        """Names behind the integer labels."""
        return self.loader.info

    @property
    def skipped(self) -> list[str]:
        """What could not be read and was left out."""
        return self.loader.skipped

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose the epoch that the next iterations run over, and the batch that they begin with."""
        self.loader.set_epoch(epoch, start_batch)

    def __iter__(self) -> Iterator[Batch]:
        if self._table is None or self._place is None:
            self._table, self._place = self._compute()
        shuffled, plan = self.loader.draws()[1], self.loader.plan()
        for step in range(self.loader.start, len(plan)):
            positions = np.arange(plan[step].start, plan[step].stop)
            places = self._place[positions if shuffled is None else shuffled[positions]]
            batch = {name: _rows(column, places[places >= 0]) for name, column in self._table.items()}
            yield {**batch, "index": torch.from_numpy(positions[places >= 0]), "roles": 1}

    @torch.no_grad()
    def _compute(self) -> tuple[dict[str, Any], np.ndarray]:
        """Return the columns of all frames that could be read, and where the row of each draw stands in them (or −1)."""
        plain = self.loader.in_order()
        parts: list[Batch] = []
        for batch in Progress(plain, "features", len(plain), shown=self.process.main, say=log.info):
            if len(batch["label"]):
                with autocast(self.loader.config.precision, self.process.device):
                    frozen = self.detector.frozen_features(self.detector.prepare(batch))
                kept = {name: value for name, value in batch.items() if name not in (*PIXELS, "roles")}
                parts.append({**kept, "frozen": frozen.float().cpu()})
        gathered = self.process.gather_everywhere((_join(parts), list(plain.skipped)))
        table = _join([columns for columns, _ in gathered if columns])
        self.loader.skipped += [line for line in flatten([lines for _, lines in gathered]) if line not in self.skipped]
        if not table:
            first = f", first {self.skipped[0]}" if self.skipped else ""
            raise DataError(
                f"cache_features: not one frame of the training set could be read ({len(self.skipped)} skipped{first}); check "
                "rgb_dir, or set data.on_error=raise to see the first fault"
            )
        place = np.full(len(self.loader.draws()[0]), -1)
        index = table.pop("index").numpy()
        place[index] = np.arange(len(index))
        return table, place


def _join(parts: list[Batch]) -> Batch:
    """Return batches one behind the other."""
    if not parts:
        return {}
    return {
        name: torch.cat([part[name] for part in parts])
        if isinstance(value, torch.Tensor)
        else flatten([part[name] for part in parts])
        for name, value in parts[0].items()
    }


def _rows(column: Any, places: np.ndarray) -> Any:
    if isinstance(column, torch.Tensor):
        return column[torch.from_numpy(places)]
    return [column[place] for place in places]
