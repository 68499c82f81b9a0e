"""The training loop: epochs of steps, validation, checkpoints. Where it stands is a step number and nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from common.cli import figures
from common.errors import WeightsError
from common.progress import Progress
from common.rundir import RunDir
from training.batch import Batch, BatchSource
from training.config.schema import Config
from training.dataset.loader import Loader, WorkerDied
from training.detectors.base import Detector, Prediction
from training.metrics.selection import is_better, value_of
from training.optimizer.averaging import WeightAverage, recompute_statistics
from training.trainer.best_weights import take_up
from training.trainer.checkpoint import changed_settings, describe, kept, read_resumable, save_checkpoint, save_newest
from training.trainer.distributed import Process
from training.trainer.evaluator import predict
from training.trainer.feature_cache import CachedLoader
from training.trainer.interruption import Interruption
from training.trainer.journal import GradientWatch, Journal
from training.trainer.precision import autocast
from training.trainer.results import score as score_predictions
from training.trainer.step import NotFinite, Stepper
from training.trainer.watching import (
    learning_rates,
    list_bad_batch,
    losses_by_name,
    losses_in_words,
    memory_gib,
    show,
)

log = logging.getLogger("clipdeepfake.train")
# Of the training set, for the BatchNorm statistics of averaged weights; the error of a mean over so many is small.
_STATISTICS_BATCHES = 200
# Seconds. The signals that a job's processes are sent do not all arrive at once.
_SIGNALS_SPREAD = 0.5


class Trainer:
    """Trains a detector on a loader and keeps the last and, by a validation set, the best weights.

    Args:
        detector: on its device.
        train: the training loader; its global batch is `train_batchSize` whatever the number of processes.
        val: the validation loader, or None; then the last weights are the result, and the log says so.
    """

    unit = "images"  # what the speed counts: a batch says whether it holds clips

    def __init__(
        self, detector: Detector, config: Config, process: Process, run: RunDir, train: Loader, val: Loader | None
    ):
        self.detector, self.config, self.process, self.run = detector, config, process, run
        self.train_loader: BatchSource = train
        self.val_loader: BatchSource | None = val
        if detector.caches_features:
            self.train_loader = CachedLoader(train, detector, process)
            self.val_loader = CachedLoader(val, detector, process) if val is not None else None
        self.steps_per_epoch = len(train)
        first, planned = config.start_epoch * self.steps_per_epoch, config.nEpochs * self.steps_per_epoch
        self.total_steps = min(planned, first + config.max_steps) if config.max_steps else planned
        self.stepper = Stepper(detector, config, process, self.total_steps, self.steps_per_epoch)
        self.averages = self._averages()
        self.journal = Journal(run if process.main else None)
        self.gradients = GradientWatch(config.rec_iter)
        self.step = first
        self.best: dict[str, Any] | None = None
        self.since_best = 0
        self.left: list[Path] = []  # newer checkpoints than the one resumed from
        # Of the epoch under way: losses by name, and over how many steps.
        self.loss_sums: dict[str, float] = {}
        self.summed = 0
        # Several processes would each stop at another step; there `save_every_steps` bounds what a signal costs.
        self.interruption = Interruption(config.save_ckpt and process.world_size == 1)

    def _averages(self) -> dict[str, WeightAverage]:
        averages = {}
        if self.config.SWA:
            averages["swa"] = WeightAverage(self.detector)
        if self.config.ema_decay is not None:
            averages["ema"] = WeightAverage(self.detector, self.config.ema_decay)
        return averages

    def fit(self) -> None:
        """Train until the last epoch or step.

        Then `checkpoints/` holds `last.pth`, with validation `best.pth`, and `swa.pth` and `ema.pth` where they were asked for.

        Raises:
            KeyboardInterrupt: a signal asked for the end; the last step, where no validation was under way, has its checkpoint.
        """
        self._announce()
        with self.interruption, self._without_workers():
            while self.step < self.total_steps and not self._should_stop():
                self._epoch(self.step // self.steps_per_epoch)
        for name, average in self.averages.items():
            if average.updates and self.config.save_ckpt:
                with self._weights_of(name):
                    if self.process.main:
                        save_checkpoint(
                            self.run.last.with_name(f"{name}.pth"), {**describe(self.detector), "step": self.step}
                        )

    def conclude(self, metrics: dict[str, dict[str, Any]]) -> None:
        """Record the settings beside the test metrics and the best validation score, and close the journal."""
        settings = {
            "detector": self.config.model_name,
            "train_dataset": ",".join(self.config.train_dataset),
            "batch": self.config.train_batchSize,
            "steps": self.total_steps,
            "optimizer": self.config.optimizer.type,
            "lr": getattr(self.config.optimizer, self.config.optimizer.type).lr,
            "seed": self.config.manualSeed,
        }
        aucs = {f"{name}_auc": m["frame"]["auc"]["value"] for name, m in metrics.items()}
        final = {name: value for name, value in aucs.items() if value is not None}
        if self.best is not None:
            final[f"val_{self.config.metric_scoring}"] = self.best["value"]
        self.journal.hyperparameters(settings, final)
        self.journal.close()

    def _announce(self) -> None:
        trainable = self.detector.trainable_parameters()
        total = sum(p.numel() for p in self.detector.parameters())
        info = self.train_loader.info
        log.info(
            "%s: %s of %s parameters train (%.3f %%); %d real and %d fake training samples; %d steps per epoch, %d in all; %s",
            self.config.model_name,
            f"{trainable:,}",
            f"{total:,}",
            100 * trainable / max(1, total),
            info.counts.get("real", 0),
            info.counts.get("fake", 0),
            self.steps_per_epoch,
            self.total_steps,
            self.stepper.precision,
        )

    def _should_stop(self) -> bool:
        patience = self.config.early_stopping
        if patience is None or self.since_best < patience:
            return False
        log.info("stopping early: no better validation score in %d validations", self.since_best)
        return True

    def _epoch(self, epoch: int) -> None:
        done = self.step - epoch * self.steps_per_epoch
        self.train_loader.set_epoch(epoch, done)
        bar = Progress(
            self.train_loader,
            f"epoch {epoch + 1}/{self.config.nEpochs}",
            self.steps_per_epoch,
            shown=self.process.main,
            done=done,
            say=log.info,
        )
        began, seen = time.monotonic(), 0
        if not done:
            self.loss_sums, self.summed = {}, 0
        for batch in bar:
            losses, prediction = self._step(batch)
            seen += len(batch["label"]) * self.process.world_size
            self.loss_sums = {name: self.loss_sums.get(name, 0.0) + value for name, value in losses.items()}
            self.summed += 1
            rate = seen / (time.monotonic() - began)
            self.unit = counted(batch)
            bar.note(f"loss {losses['overall']:.4f}, {figures(rate)} {self.unit}/s")
            if self.process.main:
                self.gradients.see(self.step, losses["grad_norm"])
            if self.step % self.config.rec_iter == 0 or self.step == 1:
                self._record(losses, rate, batch, prediction)
            if self.step >= self.total_steps:
                break
            # A checkpoint of an epoch's last step waits for the validation, which a resume from it would leave out.
            if self.step % self.steps_per_epoch and (self._is_due() or self.interruption.asked):
                self.save_last()
                self._stop_if_asked()
        means = {name: value / self.summed for name, value in self.loss_sums.items()}
        self._end_epoch(epoch, means, seen / max(1e-9, time.monotonic() - began))

    def _step(self, batch: Batch) -> tuple[dict[str, float], Prediction]:
        try:
            losses, prediction = self.stepper.step(batch, self.step)
        except NotFinite as error:
            list_bad_batch(self.run.bad_batch, self.process, self.step, batch, error.values)
            raise
        self.step += 1
        if "ema" in self.averages:
            self.averages["ema"].update()
        if "swa" in self.averages and self.step > self.config.swa_start * self.total_steps:
            self.averages["swa"].update()
        return losses, prediction

    def _record(self, losses: dict[str, float], rate: float, batch: Batch, prediction: Prediction) -> None:
        values = losses_by_name({name: value for name, value in losses.items() if name != "grad_norm"})
        values |= {"grad_norm": losses["grad_norm"], **learning_rates(self.stepper.optimizer)}
        values |= {"images_per_second": rate, "memory_gib": memory_gib(self.process.device)}
        self.journal.scalars(self.step, values, epoch=self.step // self.steps_per_epoch)
        if self.process.main and (self.step == 1 or self.step % (10 * self.config.rec_iter) == 0):
            show(self.journal, self.step, batch, prediction)

    def _end_epoch(self, epoch: int, means: dict[str, float], rate: float) -> None:
        losses = {name: value for name, value in means.items() if name != "grad_norm"}
        text = f"epoch {epoch + 1}: {losses_in_words(losses)}, {figures(rate)} {self.unit}/s"
        values = losses_by_name(losses, "epoch_loss")
        values |= {f"epoch_loss/{name}": value for name, value in means.items() if name == "grad_norm"}
        self.journal.scalars(self.step, values, epoch=epoch + 1)
        last = self.step >= self.total_steps
        if self.val_loader is not None:
            text += f", validation {self._validate(epoch)}"
        if self.process.main:
            log.info("%s", text)
        if (epoch + 1) % self.config.save_epoch == 0 or last or self._is_due() or self.interruption.asked:
            self.save_last()
        if not last:
            self._stop_if_asked()

    @contextmanager
    def _without_workers(self) -> Iterator[None]:
        """Keep the step that is done where the signal that asks for the end has ended the data-loading workers too.

        Batch systems send SIGTERM to every process of a job.
        """
        try:
            yield
        except WorkerDied:
            time.sleep(_SIGNALS_SPREAD)
            if not self.interruption.asked:
                raise
            if self.step % self.steps_per_epoch:
                self.save_last()
            self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        """Stop if a signal asked for it."""
        if self.interruption.asked:
            log.info(
                "stopped at step %d of %d; --resume auto --log_dir %s goes on",
                self.step,
                self.total_steps,
                self.run.path,
            )
            self.journal.close()
            raise KeyboardInterrupt

    def _is_due(self) -> bool:
        """Return whether `save_every_steps` asks for a checkpoint of this step."""
        every = self.config.save_every_steps
        return every is not None and self.step % every == 0

    def _validate(self, epoch: int) -> str:
        """Score the present weights, and the averages if there are any, and keep the best by metric_scoring."""
        texts = []
        for name in ("weights", *(name for name, average in self.averages.items() if average.updates)):
            with self._weights_of(name):
                value = self._score(name, epoch)
            prefix = "" if name == "weights" else f"{name} "
            texts.append(f"{prefix}{self.config.metric_level} {self.config.metric_scoring} {value:.4f}")
        self.since_best = 0 if self.best and self.best["step"] == self.step else self.since_best + 1
        return ", ".join(texts)

    @contextmanager
    def _weights_of(self, variant: str) -> Iterator[None]:
        """Put the weights of a variant into the detector for the time of the block: `weights` (the present ones), an average."""
        if variant == "weights":
            yield
            return
        with self.averages[variant].applied():
            # A moving average stays near the present weights and so do its statistics; the equal mean needs its own.
            if variant == "swa":
                self.train_loader.set_epoch(max(0, self.step - 1) // self.steps_per_epoch)
                recompute_statistics(self.detector, self._pass_over_training, self.process.sum)
            yield

    def _pass_over_training(self) -> int:
        batches = 0
        for batch in islice(self.train_loader, _STATISTICS_BATCHES):
            if len(batch["label"]):
                with autocast(self.config.precision, self.process.device):
                    self.detector(self.detector.prepare(batch), inference=True)
                batches += 1
        return batches

    def _score(self, variant: str, epoch: int) -> float:
        assert self.val_loader is not None
        found = predict(
            self.detector,
            self.val_loader,
            self.process,
            title="validation",
            precision=self.config.precision,
        )
        metrics = score_predictions(found, self.config, "the validation set", bootstrap=0) if found else None
        metrics = self.process.broadcast(metrics)
        assert metrics is not None
        value = value_of(metrics, self.config.metric_scoring, self.config.metric_level)
        tag = "val" if variant == "weights" else f"val_{variant}"
        self.journal.scalars(
            self.step, {f"{tag}/{name}": entry["value"] for name, entry in metrics["frame"].items()}, epoch=epoch + 1
        )
        if self.best is None or is_better(value, self.best["value"], self.config.metric_scoring):
            self.best = {"value": value, "step": self.step, "epoch": epoch + 1, "variant": variant}
            if self.process.main and self.config.save_ckpt:
                save_checkpoint(self.run.best, {**describe(self.detector), "step": self.step, "best": self.best})
                self.run.set_aside.unlink(missing_ok=True)
        return value

    def save_last(self) -> None:
        """Write a resumable checkpoint; earlier ones beyond `keep_checkpoints` are removed after it is safe on disk."""
        if not (self.process.main and self.config.save_ckpt):
            return
        content = {
            **describe(self.detector),
            **self.stepper.state(),
            "averages": {name: average.state() for name, average in self.averages.items()},
            "step": self.step,
            "best": self.best,
            "since_best": self.since_best,
            "epoch_losses": {"sums": self.loss_sums, "steps": self.summed},
        }
        save_newest(self.run, content, self.config.keep_checkpoints, self.left)
        self.left = []

    def resume(self, path: Path) -> None:
        """Continue exactly where a checkpoint stands, of this run or of one in another directory.

        Raises:
            WeightsError: it cannot be read, or was written by another configuration's network.
        """
        state = read_resumable(path)
        changed = changed_settings(state["config"], self.detector.config.model_dump(mode="json"))
        if changed:
            log.warning("%s was written with other settings: %s", path, "; ".join(changed))
        self.detector.load_weights(state["model"])
        self.detector.load_training_state(state["training_state"])
        try:
            self.stepper.load_state(state)
        except ValueError as error:
            raise WeightsError(
                f"{path} was written with another optimiser or other trainable parts: {error}"
            ) from error
        for name, average in self.averages.items():
            if name in state["averages"]:
                average.load_state(state["averages"][name])
        self.step, self.best, self.since_best = state["step"], state["best"], state["since_best"]
        # A checkpoint of the first version has none; its epoch's mean is that of the steps still to come.
        begun = state.get("epoch_losses", {"sums": {}, "steps": 0})
        self.loss_sums, self.summed = begun["sums"], begun["steps"]
        log.info("resumed from %s at step %d of %d", path, self.step, self.total_steps)
        self.journal.rewind(self.step)
        if not self.config.save_ckpt:
            return
        self.best = self.process.broadcast(take_up(self.run, path, state, self.config) if self.process.main else None)
        self.since_best = self.since_best if self.best else 0
        there = [each.resolve() for each in kept(self.run)]
        if path.resolve() in there:
            self.left = there[: there.index(path.resolve())]
        else:
            self.save_last()  # so that this directory can be resumed too, whenever the run is stopped


def counted(batch: Batch) -> str:
    """Return what a batch's samples are, for its pace: `clips` of shape (B, T, 3, H, W), or else `images`."""
    return "clips" if "image" in batch and batch["image"].ndim == 5 else "images"
