"""Sharpness-aware minimisation (Foret et al., ICLR 2021): the gradient at the worst point near by, applied here.

Usage, with gradients already averaged over processes and micro-batches::

    backward()
    with perturbed(parameters, rho):
        zero_grad(); backward()
    optimizer.step()
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def perturbed(parameters: Iterable[nn.Parameter], rho: float) -> Iterator[None]:
    """Move the parameters by ρ g/‖g‖ (eq. 2 of the paper) for the time of the block, then put them back exactly.

    The direction does not depend on the gradient's scale, so a loss scaler needs no unscaling before it; when the
    gradient is not finite the parameters stay where they are, and the optimiser's own check skips the step.
    """
    moved = [p for p in parameters if p.grad is not None]
    gradients = [p.grad for p in moved if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients]))
    if not torch.isfinite(norm) or norm == 0:
        yield
        return
    kept = [p.detach().clone() for p in moved]
    with torch.no_grad():
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.add_(gradient * (rho / norm).to(parameter.dtype))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(moved, kept, strict=True):
                parameter.copy_(value)
