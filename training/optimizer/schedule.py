"""Learning-rate schedules as pure functions of the step, so that a resumed run needs no scheduler state."""

import math

import torch

from training.config.schema import Config


def factor(config: Config, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """Return what the base learning rate is multiplied by at `step` (from 0).

    `step`: lr_gamma every lr_step epochs. `cosine` and `linear`: from 1 down to lr_min at the last step, once the share
    `lr_hold` of the training is over. All begin with a linear rise over `warmup_steps`, or the share `lr_rise` of the training
    where that is longer.
    """
    warmup = max(config.warmup_steps, round(config.lr_rise * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    if config.lr_scheduler is None:
        return 1.0
    if config.lr_scheduler == "step":
        return config.lr_gamma ** (step // steps_per_epoch // config.lr_step)
    begin = max(warmup, round(config.lr_hold * total_steps))
    done = min(1.0, max(0, step - begin) / max(1, total_steps - 1 - begin))
    shape = (1 + math.cos(math.pi * done)) / 2 if config.lr_scheduler == "cosine" else 1 - done
    return config.lr_min + (1 - config.lr_min) * shape


def set_learning_rate(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Give every group its initial rate times `scale`."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * scale
