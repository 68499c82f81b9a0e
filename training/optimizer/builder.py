"""Build the optimiser that the configuration names, with its parameter groups."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from common.errors import ConfigError
from training.config.schema import Config
from training.detectors.base import Detector


def build_optimizer(detector: Detector, config: Config) -> torch.optim.Optimizer:
    """Return the optimiser over what the detector trains but an adversary (`optimizer.type`; SAM's inner step is SGD).

    Each group carries `initial_lr`, which the schedule multiplies. Weight decay is what the optimiser of that name makes of it,
    L2 but for `adamw`; a detector's group with `decoupled_weight_decay` shrinks by lr · decay a step under every one.

    Raises:
        ConfigError: nothing is trainable.
    """
    optimizer = _over(detector, detector.param_groups(config), config)
    if optimizer is None:
        raise ConfigError(
            f"nothing in `{config.model_name}` is trainable with this configuration; look at its tuning key"
        )
    return optimizer


def build_adversary(detector: Detector, config: Config) -> torch.optim.Optimizer | None:
    """Return an optimiser of the same kind over the detector's adversary; None where it has none."""
    return _over(detector, detector.adversary_groups(config), config)


def _over(detector: Detector, wanted: Iterable[dict[str, Any]], config: Config) -> torch.optim.Optimizer | None:
    """Return the configured optimiser over what trains in the given groups; None if that is nothing."""
    settings = getattr(config.optimizer, config.optimizer.type)
    groups = [part for group in wanted for part in _refine(detector, group, config, settings.lr, settings.weight_decay)]
    if not groups:
        return None
    if config.optimizer.type in ("adam", "adamw"):
        make = torch.optim.AdamW if config.optimizer.type == "adamw" else torch.optim.Adam
        optimizer: torch.optim.Optimizer = make(
            groups, lr=settings.lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, amsgrad=settings.amsgrad
        )
    else:
        for group in groups:
            # Adam knows that key; SGD's own decay is always L2.
            if group.pop("decoupled_weight_decay", False):
                group["apart"], group["weight_decay"] = group["weight_decay"], 0.0
        optimizer = torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov)
        optimizer.register_step_pre_hook(_decay_apart)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


@torch.no_grad()
def _decay_apart(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Shrink the weights of decoupled groups as AdamW does (Loshchilov & Hutter 2019, algorithm 1), outside the momentum."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if "apart" in group else ():
            if parameter.grad is not None:
                parameter.mul_(1 - group["lr"] * group["apart"])


def _refine(
    detector: Detector, group: dict[str, Any], config: Config, lr: float, weight_decay: float
) -> Iterable[dict[str, Any]]:
    """Split one group by weight decay and by depth, as the configuration asks."""
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    plain = _norms_and_biases(detector) if not config.optimizer.decay_norm_and_bias else set()
    depth = {name: _layer_of(name) for name in names.values()}
    deepest = max((d for d in depth.values() if d is not None), default=-1) + 1
    split: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in group["params"]:
        if not parameter.requires_grad:
            continue
        layer = depth[names[id(parameter)]]
        scale = 1.0 if layer is None else config.optimizer.layer_decay ** (deepest - layer)
        decay = 0.0 if id(parameter) in plain else group.get("weight_decay", weight_decay)
        split.setdefault((group.get("lr", lr) * scale, decay), []).append(parameter)
    rest = {key: value for key, value in group.items() if key not in ("params", "lr", "weight_decay")}
    for (rate, decay), parameters in split.items():
        yield {**rest, "params": parameters, "lr": rate, "weight_decay": decay}


def _norms_and_biases(detector: Detector) -> set[int]:
    """Return the ids of all vectors and scalars: gains, biases, class tokens' scales."""
    return {id(parameter) for parameter in detector.parameters() if parameter.ndim <= 1}


def _layer_of(name: str) -> int | None:
    """Return the depth of a parameter inside a trunk of numbered blocks, None for heads and unnumbered parts."""
    found = re.search(r"(?:resblocks|blocks|layers?)\.(\d+)\.", name)
    if found:
        return int(found.group(1)) + 1
    # How OpenAI, timm and Hugging Face call what stands before the first block.
    before = r"(class_embedding|(pos|position|positional|time|patch)_embed|cls_token|conv1|ln_pre|pre_layernorm|stem)"
    return 0 if re.search(before, name) else None
