"""One training step: forward, losses, gradients, update. Reads like the method; everything around it lives elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from training.config.schema import Config
from training.detectors.base import Batch, Clock, Detector, Losses, Prediction
from training.errors import DataError, ProjectError
from training.optimizer.builder import build_optimizer
from training.optimizer.sam import perturbed
from training.optimizer.schedule import factor, set_learning_rate
from training.trainer.distributed import Process
from training.trainer.precision import autocast, resolve


class NotFinite(ProjectError):
    """The loss is NaN or infinite; carries the videos of the batch."""

    def __init__(self, step: int, losses: dict[str, float], videos: list[str]):
        bad = ", ".join(f"{name}={value}" for name, value in losses.items() if not math.isfinite(value))
        super().__init__(
            f"the loss is not finite at step {step} ({bad}); lower the learning rate, set grad_clip, or look at the batch's "
            "videos, which are listed in bad_batch.json"
        )
        self.videos = videos


class PredictAndScore(nn.Module):
    """Detector and losses as one module, so that a wrapper around it sees every parameter that a loss reaches."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch) -> tuple[Losses, Prediction]:
        prediction = self.detector(batch)
        return self.detector.get_losses(batch, prediction), prediction


class Stepper:
    """Holds the network, its wrapper, optimiser and scaler, and takes one step at a time."""

    def __init__(self, detector: Detector, config: Config, process: Process, total_steps: int, steps_per_epoch: int):
        self.detector, self.config, self.process = detector, config, process
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.optimizer = build_optimizer(detector, config)
        self.precision = resolve(config.precision, process.device)
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=self.precision == "fp16")
        module: nn.Module = PredictAndScore(detector)
        if config.sync_batchnorm and process.distributed:
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        if config.channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module: Any = torch.compile(module) if config.compile else module
        if process.distributed:
            self.module = nn.parallel.DistributedDataParallel(
                self.module,
                device_ids=[process.device] if process.device.type == "cuda" else None,
                find_unused_parameters=detector.find_unused_parameters,
            )
        self.parameters = [p for p in detector.parameters() if p.requires_grad]

    def clock(self, step: int) -> Clock:
        """Return the time of a step."""
        return Clock(step, self.total_steps, self.steps_per_epoch)

    def step(self, batch: Batch, step: int) -> tuple[dict[str, float], Prediction]:
        """Take optimiser step number `step` on this process's share of the global batch.

        Returns:
            the losses by name and `grad_norm`, averaged over processes, and the last micro-batch's prediction.

        Raises:
            NotFinite: before anything is updated.
        """
        clock = self.clock(step)
        self._reseed(step)
        self.detector.train()
        self.detector.before_step(clock)
        set_learning_rate(self.optimizer, factor(self.config, step, self.total_steps, self.steps_per_epoch))
        batch = self.detector.prepare(batch)
        losses, prediction = self._backward(batch, step)
        if self.config.optimizer.type == "sam":
            with perturbed(self.parameters, self.config.optimizer.sam.rho):
                self._reseed(step)
                self._backward(batch, step)
        self.detector.after_backward(clock)
        self.scaler.unscale_(self.optimizer)
        limit = self.config.grad_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {**losses, "grad_norm": float(norm)}, prediction

    def _backward(self, batch: Batch, step: int) -> tuple[dict[str, float], Prediction]:
        """Fill the gradients with those of the global batch's mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        size = len(batch["label"])
        parts = list(split_batch(batch, self.config.accumulate)) if size else [stand_in(batch)] * self.config.accumulate
        shares = self.config.accumulate * self.process.world_size
        total = self._global_size(batch)
        if total == 0:
            raise DataError(
                f"step {step}: every sample of the batch was unreadable; look at the list of skipped samples"
            )
        batch_counts = self._global_counts(batch)
        sums: dict[str, Tensor] = {}
        prediction: Prediction = {}
        for number, part in enumerate(parts):
            # Every share has the same weight unless samples were dropped; then the mean is still over samples.
            weight = len(part["label"]) * shares / total if size else 0.0
            part["counts"] = {name: count * weight / shares for name, count in batch_counts.items()}
            last = number == len(parts) - 1
            hold = nullcontext() if last or not self.process.distributed else self.module.no_sync()
            with hold:
                with autocast(self.precision, self.process.device):
                    losses, prediction = self.module(part)
                self.scaler.scale(losses["overall"] * (weight / self.config.accumulate)).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach().float() * (weight / shares)
        names = list(sums)
        values = self.process.sum(torch.stack([sums[name] for name in names])).tolist()
        means = dict(zip(names, values, strict=True))
        if not all(math.isfinite(value) for value in values):
            raise NotFinite(step, means, batch["video"])
        return means, prediction

    def _global_size(self, batch: Batch) -> int:
        return int(self.process.sum(torch.tensor(len(batch["label"]), device=self.process.device)))

    def _global_counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the detector's masked counts summed over all processes: denominators of its masked means."""
        counts = self.detector.counts(batch)
        if not counts:
            return {}
        values = self.process.sum(torch.cat([count.float().flatten() for count in counts.values()]))
        parts = values.split([count.numel() for count in counts.values()])
        return {name: part.view(counts[name].shape) for name, part in zip(counts, parts, strict=True)}

    def _reseed(self, step: int) -> None:
        """Make the model's own randomness a function of (seed, step, rank), so that none of it needs saving."""
        seed = (self.config.manualSeed * 1_000_003 + step) * 4096 + self.process.rank
        torch.manual_seed(seed % (1 << 63))

    def state(self) -> dict[str, object]:
        """Return what a checkpoint keeps of the optimisation."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state(self, state: dict) -> None:
        """Take back what `state` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def split_batch(batch: Batch, parts: int) -> Iterator[Batch]:
    """Yield micro-batches of a flat, role-major batch: each holds the same share of every role."""
    if parts == 1:
        yield dict(batch)
        return
    roles = int(batch.get("roles", 1))
    size = len(batch["label"])
    per_role = size // roles
    if per_role < parts:
        raise ProjectError(f"accumulate: {parts} micro-batches cannot be cut from {per_role} samples; lower accumulate")
    bounds = [per_role * i // parts for i in range(parts + 1)]
    for low, high in pairwise(bounds):
        rows = [role * per_role + i for role in range(roles) for i in range(low, high)]
        yield {key: _take(value, rows, size) for key, value in batch.items()}


def stand_in(batch: Batch) -> Batch:
    """Return one blank sample per role in the form of an empty batch.

    A process whose samples could all not be read must still take part in the step; its loss then weighs nothing.
    """
    roles = int(batch.get("roles", 1))
    filled: Batch = {"roles": roles}
    for key, value in batch.items():
        if isinstance(value, Tensor) and value.ndim:
            unknown = -1 if key in ("target_id", "source_id") else 0
            filled[key] = value.new_full((roles, *value.shape[1:]), unknown)
        elif isinstance(value, list):
            filled[key] = [""] * roles
    filled["label"] = torch.arange(roles, device=filled["label"].device).clamp(max=1)
    return filled


def _take(value: object, rows: list[int], size: int) -> object:
    if isinstance(value, Tensor) and value.ndim and len(value) == size:
        return value[torch.tensor(rows, device=value.device)]
    if isinstance(value, list) and len(value) == size:
        return [value[i] for i in rows]
    return value
