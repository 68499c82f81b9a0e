"""Blocks that are computed again in the backward pass instead of kept: less memory for more time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """Return `block(x)`, keeping only `x` until the backward pass, which computes the rest again.

    Random numbers are the same then, and BatchNorm does not count the batch a second time: outputs, gradients and running
    statistics are those without it.
    """
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _uncounted(block)))


@contextmanager
def _uncounted(block: nn.Module) -> Iterator[None]:
    """Let BatchNorm read the batch without its running statistics following."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    kept = [count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for count, value in zip(counts, kept, strict=True):
            count.copy_(value)
