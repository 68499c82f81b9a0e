"""What of a tower trains. A strategy is a name: a rule over parameters here, or a file of this folder.

A new one that only chooses parameters is a line of `_RULES`. One that rebuilds layers is a file `<name>.py` with a class derived
from `Strategy` of the name `Chosen`; its keys, if any, are a `Section` that `ClipConfig` takes under the strategy's name.
Towers are any module: strategies look for attention and matrices themselves, and never ask whose tower it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator
from torch import Tensor, nn

from common.by_name import Folder, nearest

_FILES = Folder(__name__, "tuning")
_RULES: dict[str, Callable[[nn.Module, str], bool]] = {
    "none": lambda owner, name: False,
    "layernorm": lambda owner, name: isinstance(owner, nn.LayerNorm),
    "bias": lambda owner, name: name.endswith("bias"),
    "full": lambda owner, name: True,
}


class Strategy:
    """Everything that a way of tuning does to a network; the base freezes all of it."""

    def apply(self, network: nn.Module, keys: Any, trained: bool) -> None:
        """Choose what trains, and rebuild layers where the strategy needs it. The network is frozen when this is called.

        Args:
            network: with its weights.
            keys: the strategy's own section of the configuration, None where it has none.
            trained: whether the weights mean something; False when a checkpoint of the whole detector follows.
        """

    def merge(self, network: nn.Module) -> None:
        """Give the network its plain layers and names back, with the same answers."""

    def constraints(self, network: nn.Module, keys: Any) -> dict[str, tuple[Tensor, float]]:
        """Return the losses on the weights themselves, by name, each with its weight in the overall loss."""
        return {}

    def constraint_weights(self, keys: Any) -> dict[str, float]:
        """Return the weights of `constraints` alone, by name."""
        return {}


class _Rule(Strategy):
    """Trains the parameters that a rule on their owner and name picks."""

    def __init__(self, picks: Callable[[nn.Module, str], bool]):
        self.picks = picks

    def apply(self, network: nn.Module, keys: Any, trained: bool) -> None:
        for owner in network.modules():
            for name, parameter in owner.named_parameters(recurse=False):
                parameter.requires_grad_(self.picks(owner, name))


def available_tunings() -> list[str]:
    """Return the names of all strategies, sorted."""
    return sorted([*_RULES, *_FILES.names])


def strategy(name: str) -> Strategy:
    """Return the strategy of that name, which `known_tuning` let pass."""
    if name in _RULES:
        return _Rule(_RULES[name])
    return _FILES.module(name).Chosen()


def known_tuning(name: str) -> str:
    """Return `name` if there is such a strategy; ValueError with the nearest one, or all of them."""
    if name not in available_tunings():
        raise ValueError(f"there is no tuning `{name}`; {nearest(name, available_tunings())}")
    return name


Tuning = Annotated[str, AfterValidator(known_tuning)]
