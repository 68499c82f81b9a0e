"""Averages of the weights along training: a running mean (SWA) or a moving one (EMA), with their own evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def norms(module: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    """Return the layers of a module that keep running statistics of what passes them."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._NormBase)]
    return [layer for layer in layers if layer.track_running_stats]


class WeightAverage:
    """Keeps an average of what training moves in a module: its trainable parameters and floating-point buffers.

    Args:
        module: whose state is averaged; what is frozen now stays out.
        decay: of the moving average (Polyak & Juditsky 1992), or None for the equal mean of all updates
            (stochastic weight averaging, Izmailov et al. 2018).
    """

    def __init__(self, module: nn.Module, decay: float | None = None):
        self.module, self.decay, self.updates = module, decay, 0
        self.mean: dict[str, Tensor] = {k: v.detach().clone() for k, v in self._floats()}

    def _floats(self) -> Iterator[tuple[str, Tensor]]:
        frozen = {name for name, parameter in self.module.named_parameters() if not parameter.requires_grad}
        for name, value in self.module.state_dict().items():
            if value.is_floating_point() and name not in frozen:
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
        """Put the averaged weights into the module for the time of the block; afterwards it is as it was to the last bit."""
        kept = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
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


@torch.no_grad()
def recompute_statistics(module: nn.Module, run: Callable[[], int], total: Callable[[Tensor], Tensor]) -> None:
    """Give BatchNorm layers the statistics that a module's present weights make, as averaged weights need (SWA, section 3.2).

    Args:
        module: whose layers those are that train; layers kept in evaluation keep their statistics.
        run: sends training images through the module, in the mode that is set here, and returns the number of batches;
            anything random in the network is off.
        total: sums a tensor over processes.
    """
    was_training = module.training
    module.train()
    layers = [layer for layer in norms(module) if layer.training]
    module.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the equal mean over batches
        layer.train()
    try:
        batches = run() if layers else 0
    finally:
        module.train(was_training)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    if layers:
        for layer in layers:
            for value in (layer.running_mean, layer.running_var):
                assert value is not None
                everywhere = total(value.new_tensor(float(batches))).clamp_min(1)
                value.copy_(total(value * batches) / everywhere)
