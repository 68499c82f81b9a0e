"""Run a detector over a loader and keep, for every frame, what metrics and figures need."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from common.errors import DataError
from common.progress import Progress
from training.batch import PEOPLE, Batch, BatchSource, is_map
from training.detectors.base import Detector, Prediction
from training.trainer.distributed import Process, flatten
from training.trainer.journal import log
from training.trainer.precision import autocast

EXAMPLES = 6


@dataclass
class Example:
    """One picture worth showing: uint8 RGB image, and the detector's spatial maps in [0, 1] by name."""

    score: float
    video: str
    frame: int
    prob: float
    image: np.ndarray
    maps: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Predictions:
    """One row per frame (or clip), in the evaluation order of the index.

    Attributes:
        video: unique names. frame: numbers in the source video. label: 0 real, 1 fake. method: manipulation, 0 real.
        prob: probability of fake, float64. feat: `(N, D)` float32, empty when not asked for.
        examples: the most wrong and the most right pictures of each class, by group name.
        skipped: samples that could not be read and were left out, with `data.on_error: skip`.
    """

    index: np.ndarray
    video: list[str]
    frame: np.ndarray
    label: np.ndarray
    method: np.ndarray
    target_id: np.ndarray
    source_id: np.ndarray
    prob: np.ndarray
    feat: np.ndarray
    examples: dict[str, list[Example]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


_COLUMNS = ("index", "frame", "label", "method", *PEOPLE)


@torch.inference_mode()
def predict(
    detector: Detector,
    loader: BatchSource,
    process: Process,
    *,
    title: str = "test",
    precision: str = "auto",
    save_feat: bool = False,
    examples: bool = False,
    progress: bool = True,
) -> Predictions | None:
    """Return the predictions of all processes together on rank 0, None elsewhere.

    Each process reads its own whole batches of the loader and has the same weights and statistics; the rows are put back
    into the order of the index. The result does not depend on how many processes there were, down to the last bit.

    Raises:
        DataError: a prediction is not a finite number.
    """
    was_training = detector.training
    detector.eval()
    process.share_buffers(detector)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*_COLUMNS, "prob", "feat")}
    video: list[str] = []
    gallery = _Gallery()
    for batch in Progress(loader, title, len(loader), shown=progress and process.main, say=log.info):
        if len(batch["label"]) == 0:
            continue
        with autocast(precision, process.device):
            prediction = detector(detector.prepare(batch), inference=True)
        prob = prediction["prob"].double().cpu().numpy()
        if not np.isfinite(prob).all():
            worst = batch["video"][int(np.flatnonzero(~np.isfinite(prob))[0])]
            raise DataError(
                f"{title}: the detector's answer for {worst} is not a number; check the weights and that video"
            )
        columns["prob"].append(prob)
        for name in _COLUMNS:
            columns[name].append(batch[name].numpy())
        columns["feat"].append(_flat(prediction["feat"]) if save_feat else np.empty((len(prob), 0), np.float32))
        video += batch["video"]
        if examples:
            gallery.offer(batch, prediction, prob)
    detector.train(was_training)
    rows = {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in columns.items()}
    gathered = process.gather((rows, video, gallery, list(loader.skipped)))
    return _join(gathered) if gathered is not None else None


def _join(parts: list[tuple[dict[str, np.ndarray], list[str], _Gallery, list[str]]]) -> Predictions:
    filled = [part for part in parts if len(part[0]["prob"])]
    if not filled:
        raise DataError("nothing could be read from this test set; look at the list of skipped samples")
    rows = {name: np.concatenate([part[0][name] for part in filled]) for name in filled[0][0]}
    order = np.argsort(rows["index"], kind="stable")
    if len(np.unique(rows["index"])) != len(order):
        raise RuntimeError("a sample was evaluated twice; the processes' shares overlap")
    video = flatten([part[1] for part in parts])
    gallery = _Gallery()
    for part in parts:
        gallery.merge(part[2])
    ordered = {name: value[order] for name, value in rows.items()}
    return Predictions(
        **ordered,
        video=[video[i] for i in order],
        examples=gallery.ranked(),
        skipped=flatten([part[3] for part in parts]),
    )


def _flat(feat: torch.Tensor) -> np.ndarray:
    """Return `(B, D)` float32: maps and tokens are averaged over their places, and a number is a feature of size 1."""
    if feat.ndim == 1:
        feat = feat[:, None]
    if feat.ndim > 2:
        feat = feat.flatten(2).mean(dim=2) if feat.ndim > 3 else feat.mean(dim=1)
    return feat.float().cpu().numpy()


class _Gallery:
    """Keeps the EXAMPLES most wrong and most right pictures of each class, one of a video, in bounded memory."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Example]] = {}  # group → video → its best picture

    def offer(self, batch: Batch, prediction: Prediction, prob: np.ndarray) -> None:
        label = batch["label"].numpy()
        maps = {name: value for name, value in prediction.items() if is_map(value, len(prob))}
        for group, rows, score in _groups(label, prob):
            best: dict[str, int] = {}
            for row in rows[np.argsort(-score[rows], kind="stable")].tolist():
                best.setdefault(batch["video"][row], row)
            # Only rows that could enter are looked at: images are large.
            for row in list(best.values())[:EXAMPLES]:
                key = (float(score[row]), batch["video"][row], -int(batch["frame"][row]))
                if self._enters(group, key):
                    self._put(group, _example(key, row, batch, maps, prob))

    def _enters(self, group: str, key: tuple[float, str, int]) -> bool:
        kept = self.kept.get(group, {})
        if key[1] in kept:
            return key > _key(kept[key[1]])
        return len(kept) < EXAMPLES or key > min(map(_key, kept.values()))

    def _put(self, group: str, example: Example) -> None:
        kept = self.kept.setdefault(group, {})
        kept[example.video] = example
        if len(kept) > EXAMPLES:
            del kept[min(kept.values(), key=_key).video]

    def merge(self, other: _Gallery) -> None:
        for group, kept in other.kept.items():
            for example in kept.values():
                if self._enters(group, _key(example)):
                    self._put(group, example)

    def ranked(self) -> dict[str, list[Example]]:
        return {group: sorted(kept.values(), key=_key, reverse=True) for group, kept in sorted(self.kept.items())}


def _key(example: Example) -> tuple[float, str, int]:
    return example.score, example.video, -example.frame


def _example(
    key: tuple[float, str, int], row: int, batch: Batch, maps: dict[str, torch.Tensor], prob: np.ndarray
) -> Example:
    image = batch["image"][row]
    image = image[len(image) // 2] if image.ndim == 4 else image
    shown = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    kept = {name: value[row, 0].float().cpu().numpy() for name, value in maps.items()}
    return Example(key[0], key[1], -key[2], float(prob[row]), shown, kept)


def _groups(label: np.ndarray, prob: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    real, fake = np.flatnonzero(label == 0), np.flatnonzero(label == 1)
    return [
        ("fake, called real", fake, 1 - prob),
        ("real, called fake", real, prob),
        ("fake, called fake", fake, prob),
        ("real, called real", real, 1 - prob),
    ]
