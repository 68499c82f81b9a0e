"""One training step: forward, losses, gradients, update. Reads like the method; everything around it lives elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import ConfigError, DataError, ProjectError
from training.batch import Batch, stand_in
from training.config.schema import Config
from training.detectors.base import ADVERSARY, Clock, Detector, Losses, Prediction
from training.optimizer.averaging import norms
from training.optimizer.builder import build_adversary, build_optimizer
from training.optimizer.sam import perturbed
from training.optimizer.schedule import factor, set_learning_rate
from training.trainer.distributed import Process
from training.trainer.precision import autocast, resolve

WEIGHTED = "weighted/"  # before the name of a loss: what it adds to `overall`


class NotFinite(ProjectError):
    """A loss or the gradient is NaN or infinite. All processes raise it together.

    Attributes:
        values: the losses by name, and `grad_norm` when only the gradient is broken.
    """

    def __init__(self, step: int, values: dict[str, float]):
        bad = ", ".join(f"{name}={value}" for name, value in values.items() if not math.isfinite(value))
        what = "gradient" if "grad_norm" in values else "loss"
        super().__init__(
            f"the {what} is not finite at step {step} ({bad}); lower the learning rate, set grad_clip, or look at the batch's "
            "videos, which are listed in bad_batch.json"
        )
        self.values = values


def _channels_last(weight: Tensor) -> Tensor:
    """Return a weight in the memory order that has channels last: kernels over pixels, and over frames and pixels."""
    order = {4: torch.channels_last, 5: torch.channels_last_3d}.get(weight.ndim, torch.preserve_format)
    return weight.to(memory_format=order)


class PredictAndScore(nn.Module):
    """Detector and losses as one module, so that a wrapper around it sees every parameter that a loss reaches."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector

    def forward(self, batch: Batch) -> tuple[Losses, Prediction]:
        prediction = self.detector(batch)
        return self.detector.get_losses(batch, prediction), prediction


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let BatchNorm normalise by the batch as in training, but leave its running statistics alone for the time of the block.

    SAM's second pass runs at weights that the network never has.
    """
    buffers = [buffer for layer in norms(module) for buffer in layer.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)


class Stepper:
    """Holds the network, its wrapper, optimisers and scaler, and takes one step at a time.

    There is a second optimiser where the detector has an adversary; it takes its step together with the first.
    """

    def __init__(self, detector: Detector, config: Config, process: Process, total_steps: int, steps_per_epoch: int):
        self.detector, self.config, self.process = detector, config, process
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.optimizer = build_optimizer(detector, config)
        self.adversary = build_adversary(detector, config)
        self.precision = resolve(config.precision, process.device)
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=self.precision == "fp16")
        if config.train_batchSize < config.accumulate * process.world_size:
            raise ConfigError(
                f"accumulate={config.accumulate}: a train_batchSize of {config.train_batchSize} over {process.world_size} "
                "process(es) cannot be cut into so many micro-batches; lower accumulate"
            )
        module: nn.Module = PredictAndScore(detector)
        if config.sync_batchnorm and process.distributed:
            if process.device.type != "cuda":
                raise ConfigError("sync_batchnorm: PyTorch synchronises BatchNorm on CUDA only; set it to false")
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        if config.channels_last:
            module._apply(_channels_last)
        self.module: Any = module
        if config.compile:
            backend = "inductor" if config.compile is True else config.compile
            self.module = torch.compile(module, backend=backend)
        if process.distributed:
            self.module = nn.parallel.DistributedDataParallel(
                self.module,
                device_ids=[process.device] if process.device.type == "cuda" else None,
                find_unused_parameters=detector.find_unused_parameters,
            )
        theirs = {id(p) for group in self.adversary.param_groups for p in group["params"]} if self.adversary else set()
        self.parameters = [p for p in detector.parameters() if p.requires_grad and id(p) not in theirs]
        self.opponents = [p for p in detector.parameters() if id(p) in theirs]

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimiser, and the adversary's where there is one."""
        return [self.optimizer, *([self.adversary] if self.adversary else [])]

    def clock(self, step: int) -> Clock:
        """Return the time of a step."""
        return Clock(step, self.total_steps, self.steps_per_epoch)

    def step(self, batch: Batch, step: int) -> tuple[dict[str, float], Prediction]:
        """Take optimiser step number `step` on this process's share of the global batch.

        Returns:
            the losses by name, raw and under `weighted/` as they count in `overall`, and `grad_norm`, averaged over
            processes, and the last micro-batch's prediction.

        Raises:
            NotFinite: before anything is updated.
        """
        clock = self.clock(step)
        self._reseed(step)
        self.detector.train()
        self.detector.before_step(clock)
        for optimizer in self.optimizers:
            set_learning_rate(optimizer, factor(self.config, step, self.total_steps, self.steps_per_epoch))
        batch = self._laid_out(self.detector.prepare(batch))
        losses, prediction = self._backward(batch, step)
        if self.config.optimizer.type == "sam":
            with perturbed(self.parameters, self.config.optimizer.sam.rho), statistics_kept(self.detector):
                self._reseed(step)
                self._backward(batch, step)
        self.detector.after_backward(clock)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        limit = self.config.grad_clip or math.inf
        norm, other = (float(nn.utils.clip_grad_norm_(part, limit)) for part in (self.parameters, self.opponents))
        # A gradient that overflows fp16 is the scaler's to handle: it leaves the step out and lowers its scale.
        if not math.isfinite(norm + other) and not self.scaler.is_enabled():
            raise NotFinite(step, {**losses, "grad_norm": norm + other})
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        return {**losses, "grad_norm": norm}, prediction

    def _laid_out(self, batch: Batch) -> Batch:
        """Bring images to the memory order of the weights."""
        if self.config.channels_last and "image" in batch and batch["image"].ndim == 4:
            batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        return batch

    def _backward(self, batch: Batch, step: int) -> tuple[dict[str, float], Prediction]:
        """Fill the gradients with those of the global batch's mean losses."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        parts = micro_batches(batch, self.config.accumulate)
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
            weight = 0.0 if part.get("stand_in") else len(part["label"]) * shares / total
            part["counts"] = {name: count * weight / shares for name, count in batch_counts.items()}
            last = number == len(parts) - 1
            hold = nullcontext() if last or not self.process.distributed else self.module.no_sync()
            with hold:
                with autocast(self.precision, self.process.device):
                    losses, prediction = self.module(part)
                lowered = losses["overall"] + losses[ADVERSARY] if self.adversary else losses["overall"]
                self.scaler.scale(lowered * (weight / self.config.accumulate)).backward()
            for name, value in self._recorded(losses).items():
                sums[name] = sums.get(name, 0) + value * (weight / shares)
        names = list(sums)
        values = self.process.sum(torch.stack([sums[name] for name in names])).tolist()
        means = dict(zip(names, values, strict=True))
        if not all(math.isfinite(value) for value in values):
            raise NotFinite(step, {name: value for name, value in means.items() if not name.startswith(WEIGHTED)})
        return means, prediction

    def _recorded(self, losses: Losses) -> Losses:
        """Return the losses, and under `weighted/` what each adds to `overall`, for the record alone."""
        plain = {name: value.detach().float() for name, value in losses.items()}
        shares = self.detector.shares({name: value for name, value in plain.items() if name != "overall"})
        return plain | {WEIGHTED + name: value for name, value in shares.items()}

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
        adversary = {ADVERSARY: self.adversary.state_dict()} if self.adversary else {}
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(), **adversary}

    def load_state(self, state: dict) -> None:
        """Take back what `state` returned; rates and the like stay those of the present configuration.

        Raises:
            ValueError: it is the state of another kind of optimiser, or of other parameters; nothing was taken.
        """
        if (ADVERSARY in state) != (self.adversary is not None):
            here, there = ("none", "one") if ADVERSARY in state else ("one", "none")
            raise ValueError(f"{there} for an adversary there, {here} here")
        states = [state["optimizer"], *([state[ADVERSARY]] if self.adversary else [])]
        fitted = [_under_own_settings(o, s) for o, s in zip(self.optimizers, states, strict=True)]
        for optimizer, taken in zip(self.optimizers, fitted, strict=True):
            optimizer.load_state_dict(taken)
        if state["scaler"]:  # empty where it was not fp16
            self.scaler.load_state_dict(state["scaler"])


def _under_own_settings(optimizer: torch.optim.Optimizer, state: dict) -> dict:
    """Return an optimiser's state dict with the groups' settings of the one that is to take it.

    Raises:
        ValueError: it is of another kind of optimiser, or of other parameters.
    """
    own, theirs = optimizer.state_dict()["param_groups"], state["param_groups"]
    if [group["params"] for group in own] != [group["params"] for group in theirs]:
        raise ValueError(f"{len(theirs)} groups of parameters there, {len(own)} here, or other parameters in them")
    if own[0].keys() != theirs[0].keys():
        raise ValueError("the optimiser there has other settings than the one here")
    return {"state": state["state"], "param_groups": own}


def micro_batches(batch: Batch, parts: int) -> list[Batch]:
    """Return exactly `parts` micro-batches, so that all processes do the same number of passes.

    Where unreadable samples left too few, stand-ins fill up, whose loss weighs nothing.
    """
    full = min(parts, len(batch["label"]) // int(batch.get("roles", 1)))
    found = list(split_batch(batch, full)) if full else []
    return found + [stand_in(batch) for _ in range(parts - full)]


def split_batch(batch: Batch, parts: int) -> Iterator[Batch]:
    """Yield micro-batches of a flat, role-major batch: each holds the same share of every role."""
    if parts == 1:
        yield dict(batch)
        return
    roles = int(batch.get("roles", 1))
    size = len(batch["label"])
    per_role = size // roles
    bounds = [per_role * i // parts for i in range(parts + 1)]
    for low, high in pairwise(bounds):
        rows = [role * per_role + i for role in range(roles) for i in range(low, high)]
        yield {key: _take(value, rows, size) for key, value in batch.items()}


def _take(value: object, rows: list[int], size: int) -> object:
    if isinstance(value, Tensor) and value.ndim and len(value) == size:
        return value[torch.tensor(rows, device=value.device)]
    if isinstance(value, list) and len(value) == size:
        return [value[i] for i in rows]
    return value
