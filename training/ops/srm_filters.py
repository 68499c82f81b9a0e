"""Three residual filters of the spatial rich model (Fridrich & Kodovský, IEEE TIFS 2012) that image forensics settled on."""

import torch
from torch import Tensor
from torch.nn import functional as F


def srm_filters() -> Tensor:
    """Return the three filters `(3, 5, 5)`: the 3×3 square, the 5×5 square, and the horizontal second difference.

    In the selection of Zhou et al., CVPR 2018; the coefficients of each sum to 0.
    """
    second = torch.tensor([0.0, 1.0, -2.0, 1.0, 0.0])
    small_square = -torch.outer(second, second) / 4
    large_square = torch.tensor([[-1.0, 2, -2], [2, -6, 8], [-2, 8, -12]]) / 12
    # The large one is symmetric about both axes: a quarter of it says everything.
    large_square = torch.cat([large_square, large_square[:, :2].flip(1)], dim=1)
    large_square = torch.cat([large_square, large_square[:2].flip(0)], dim=0)
    horizontal = F.pad(second[None] / 2, (0, 0, 2, 2))
    return torch.stack([small_square, large_square, horizontal])
