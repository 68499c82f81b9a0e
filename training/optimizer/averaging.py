"""Averages of the weights along training: a running mean (SWA) or a moving one (EMA), with their own evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keeps an average of a module's floating-point state.

    Args:
        module: whose state is averaged.
        decay: of the moving average (Polyak & Juditsky 1992), or None for the equal mean of all updates
            (stochastic weight averaging, Izmailov et al. 2018).
    """

    def __init__(self, module: nn.Module, decay: float | None = None):
        self.module, self.decay, self.updates = module, decay, 0
        self.mean: dict[str, Tensor] = {k: v.detach().clone() for k, v in self._floats()}

    def _floats(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                yield name, value

    @torch.no_grad()
    def update(self) -> None:
        """Take the module's present weights in."""
        self.updates += 1
        # An EMA that starts from the first weights would remember them for long; the equal mean bounds that.
        weight = 1 / self.updates if self.decay is None else max(1 - self.decay, 1 / self.updates)
        for name, value in self._floats():
            self.mean[name].lerp_(value.detach().to(self.mean[name]), weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged weights into the module for the time of the block."""
        kept = {name: value.detach().clone() for name, value in self._floats()}
        self.module.load_state_dict(self.mean, strict=False)
        try:
            yield
        finally:
            self.module.load_state_dict(kept, strict=False)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"mean": self.mean, "updates": self.updates}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.updates = state["updates"]
        for name, value in state["mean"].items():
            self.mean[name].copy_(value)
