"""The batch of all processes, for losses that compare samples with one another."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(value: Tensor, own: bool = True) -> Tensor:
    """Return the rows of all processes, in order of rank; gradients flow back to each process's own rows.

    Every process computes the same loss of the gathered rows, and the wrapper averages gradients over processes; the
    collective's backward sums them. The mean is therefore that of the single-process loss. Alone: the value itself.

    Args:
        value: `(B, …)`; B may differ between processes, as where samples could not be read.
        own: False where this process's rows are stand-ins: it takes part and adds none.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return value
    count = torch.tensor([len(value), len(value) if own else 0], device=value.device)
    counts = [torch.empty_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    longest, rows = max(int(c[0]) for c in counts), [int(c[1]) for c in counts]
    if longest == 0:
        return value
    padded = torch.cat([value, value.new_zeros(longest - len(value), *value.shape[1:])]).contiguous()
    parts = _Gather.apply(padded)  # (processes, longest, …)
    return torch.cat([part[:number] for part, number in zip(parts, rows, strict=True)])


class _Gather(torch.autograd.Function):
    """Every process's value, stacked; backward: the sum of all processes' gradients of this one's value."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, value)
        return torch.stack(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]
