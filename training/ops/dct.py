"""The discrete cosine transform as a matrix."""

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor


def dct_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II as a float32 matrix `(size, size)`: `D @ x` transforms the columns of x."""
    return torch.from_numpy(dct(np.eye(size), axis=0, norm="ortho")).float()
