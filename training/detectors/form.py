"""What a network consists of at one moment, so that it may change and new parts behave like those whose place they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class _Manner:
    """How a module is set: training or not, which precision and device, whether anything of it trains."""

    training: bool
    dtype: torch.dtype | None
    device: torch.device | None
    trains: bool

    @classmethod
    def of(cls, module: nn.Module) -> _Manner:
        parameters = [p for p in module.parameters() if p.is_floating_point()]
        first = parameters[0] if parameters else None
        trains = any(p.requires_grad for p in parameters)
        return cls(
            module.training,
            first.dtype if first is not None else None,
            first.device if first is not None else None,
            trains,
        )


class Form:
    """A module's parts before a change.

    `hand_on()` gives every part that has come since the mode, precision, device and frozenness of the part whose place it
    takes, or of what it stands in; `restore()` takes the change back. Values of parameters are not kept.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self.parts = {part: (dict(vars(part)), dict(part._modules)) for part in module.modules()}
        self.manners = {part: _Manner.of(part) for part in self.parts}

    def hand_on(self) -> None:
        """Make new parts behave like those whose place they take."""
        whole = self.manners[self.module]
        for part in list(self.module.modules()):
            if part not in self.parts:
                continue
            for name, child in part.named_children():
                if child in self.parts:
                    continue
                # A part without parameters (an identity) says nothing of precision and of what trains.
                before = self.parts[part][1].get(name)
                near = [self.manners[m] for m in (before, part) if m is not None]
                manner = next((m for m in near if m.dtype is not None), whole)
                child.to(device=manner.device, dtype=manner.dtype)
                child.train(near[0].training)
                if not manner.trains:
                    child.requires_grad_(False)

    def restore(self) -> None:
        """Take back what has come and gone since."""
        for part, (attributes, children) in self.parts.items():
            settings: dict[str, Any] = vars(part)
            settings.clear()
            settings.update(attributes)
            part._modules.clear()
            part._modules.update(children)
