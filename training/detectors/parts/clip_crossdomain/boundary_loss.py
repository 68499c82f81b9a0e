"""W against the boundary of the forgery mask: where a face was put together is known in training sets that keep masks."""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.loss.masked import known_masks


def boundary_band(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return which cells of the grid the boundary of a mask `(B, 1, H, W)` crosses, `(B, 1, h, w)` of zeros and ones."""
    mask = mask.float()
    # Where a pixel's 3 × 3 neighbourhood holds both what is inside and what is outside.
    return F.adaptive_max_pool2d(_dilated(mask) + _dilated(1 - mask) - 1, grid)


def _dilated(mask: Tensor) -> Tensor:
    """Return the maximum of a mask in [0, 1] over 3 × 3 pixels, side after side: pooling takes several times as long on a CPU."""
    for dim in (2, 3):
        size = mask.shape[dim]
        near = F.pad(mask, (0, 0, 1, 1) if dim == 2 else (1, 1))  # zeros, which no maximum takes
        first, middle, last = (near.narrow(dim, start, size) for start in range(3))
        mask = torch.maximum(torch.maximum(first, middle), last)
    return mask


def boundary_target(mask: Tensor, label: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the band `(B, 1, h, w)` and which of its cells are known, same shape, both of zeros and ones.

    A real image has no boundary anywhere. A fake whose mask is empty has a boundary that nobody recorded: all unknown.
    """
    recorded = known_masks(mask, label)
    band = boundary_band(mask * (label != 0).to(mask.dtype).view(-1, 1, 1, 1), grid)
    return band, recorded.float().view(-1, 1, 1, 1).expand_as(band)


def boundary_counts(band: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return per cell of the grid how many images have the band there and how many do not, both `(1, 1, h, w)`."""
    return (band * known).sum(dim=0, keepdim=True), ((1 - band) * known).sum(dim=0, keepdim=True)


def boundary_loss(
    weights: Tensor, band: Tensor, known: Tensor, on: Tensor | None = None, off: Tensor | None = None
) -> Tensor:
    """Return the binary cross-entropy of W over known cells, balanced at each place of the grid.

    Faces are aligned, so bands lie at nearly the same places in every fake. Were all cells one heap, W could be good by knowing
    where faces have their outlines. Therefore images with the band at a place and images without it weigh half each
    at that place, and places that have only one of the two say nothing.

    Args:
        weights: W in [0, 1]; band, known: as `boundary_target` gives them; all `(B, 1, h, w)`.
        on, off: `boundary_counts` of the global batch; None: those of this batch.
    """
    if on is None or off is None:
        on, off = boundary_counts(band, known)
    # Written out: PyTorch's own stops the device on a W that is not a number, before anybody could say which videos it was.
    w = weights.float().clamp(1e-6, 1 - 1e-6)
    each = -(band * w.log() + (1 - band) * (1 - w).log())
    told = ((on > 0) & (off > 0)).float()
    share = band / on.clamp_min(1e-6) + (1 - band) / off.clamp_min(1e-6)
    return (each * known * share * told).sum() / (2 * told.sum()).clamp_min(1)
