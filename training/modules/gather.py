"""The batch of all processes, for losses that compare samples with one another."""

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
    padded = torch.cat([value, value.new_zeros(longest - len(value), *value.shape[1:])]).contiguous()
    if value.is_floating_point():
        from torch.distributed.nn.functional import all_gather

        parts = list(all_gather(padded))
    else:
        parts = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(parts, padded)
    return torch.cat([part[:number] for part, number in zip(parts, rows, strict=True)])
