"""Low-rank updates beside the matrices of all blocks (Hu et al., ICLR 2022)."""

from __future__ import annotations

from typing import Any

from torch import nn

from training.networks.low_rank import add_low_rank, merge_low_rank
from training.networks.tuning import Strategy


class Chosen(Strategy):
    """`training/networks/low_rank.py` as a strategy."""

    def apply(self, network: nn.Module, keys: Any, trained: bool) -> None:
        add_low_rank(network, keys)

    def merge(self, network: nn.Module) -> None:
        merge_low_rank(network)
