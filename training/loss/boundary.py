"""W against the boundary of the forgery mask: where a face was put together is known in training sets that keep masks."""

import torch
from torch import Tensor
from torch.nn import functional as F


def boundary_band(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return which cells of the grid the boundary of a mask `(B, 1, H, W)` crosses, `(B, 1, h, w)` of zeros and ones."""
    mask = mask.float()
    inner = -F.max_pool2d(-mask, 3, stride=1, padding=1)
    outer = F.max_pool2d(mask, 3, stride=1, padding=1)
    return F.adaptive_max_pool2d(outer - inner, grid)


def boundary_target(mask: Tensor, label: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the band `(B, 1, h, w)` and which of its cells are known, same shape, both of zeros and ones.

    A real image has no boundary anywhere. A fake whose mask is empty has a boundary that nobody recorded: all unknown.
    """
    recorded = (mask.flatten(1) > 0).any(dim=1) | (label == 0)
    band = boundary_band(mask * (label != 0).to(mask.dtype).view(-1, 1, 1, 1), grid)
    return band, recorded.float().view(-1, 1, 1, 1).expand_as(band)


def boundary_loss(
    weights: Tensor,
    band: Tensor,
    known: Tensor,
    on: float | Tensor | None = None,
    off: float | Tensor | None = None,
) -> Tensor:
    """Return the binary cross-entropy of W over known cells, cells on the band and off it weighing half each.

    Args:
        weights: W in [0, 1]; band, known: as `boundary_target` gives them; all `(B, 1, h, w)`.
        on, off: what the two sums are divided by (their numbers of cells over the global batch); None: those of this batch.
    """
    each = F.binary_cross_entropy(weights.float().clamp(1e-6, 1 - 1e-6), band, reduction="none")
    total: Tensor = torch.zeros((), device=weights.device)
    for cells, count in ((band * known, on), ((1 - band) * known, off)):
        number = torch.as_tensor(cells.sum() if count is None else count, device=weights.device)
        total = total + (each * cells).sum() / number.clamp_min(1e-6)
    return total / 2
