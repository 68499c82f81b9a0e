"""Attention maps that say where a face was manipulated (Dang et al., "On the Detection of Digital Face Manipulation",
CVPR 2020, section 3.2): regressed place by place, or as a combination of forgery masks seen before."""

import os
import zipfile

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import WeightsError


class RegressedMap(nn.Module):
    """One separable convolution and a sigmoid: a probability for every place."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return `(B, 1, h, w)` in (0, 1) of features `(B, C, h, w)`."""
        return self.pointwise(self.depthwise(features)).sigmoid()


class AppearanceMap(nn.Module):
    """Manipulation appearance model: the mean forgery mask plus its principal components, weighed by the image (eq. 2).

    The components come from masks of training forgeries (`fit_appearance`); they are kept with the weights.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, channels: int, size: int, components: int):
        """`size` is the side of the feature map."""
        super().__init__()
        hidden = channels // 2
        self.reduce = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.weights = nn.Linear(hidden, components)
        self.register_buffer("mean", torch.zeros(size, size))
        self.register_buffer("basis", torch.zeros(components, size, size))

    def load_appearance(self, path: str | os.PathLike) -> None:
        """Take mean and components from a `.npz` of `generate_map_basis.py`.

        Raises:
            WeightsError: there is no such file, or it is for another size or number of components.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                found = {name: torch.from_numpy(content[name]).float() for name in ("mean", "basis")}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise WeightsError(
                f"map_basis {path} cannot be read ({type(error).__name__}); make it with training/generate_map_basis.py"
            ) from error
        for name, value in found.items():
            own = getattr(self, name)
            if own.shape != value.shape:
                raise WeightsError(
                    f"map_basis {path}: `{name}` has shape {tuple(value.shape)}, and {tuple(own.shape)} is needed; make it "
                    "again with training/generate_map_basis.py at this resolution"
                )
            own.copy_(value)

    def forward(self, features: Tensor) -> Tensor:
        """Return `(B, 1, size, size)`, about in [0, 1], of features `(B, C, size, size)`."""
        weights = self.weights(self.reduce(features))  # (B, K)
        return (self.mean + torch.einsum("bk,khw->bhw", weights, self.basis)).unsqueeze(1)


def fit_appearance(masks: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean `(h, w)` and the first principal components `(K, h, w)` of masks `(N, h, w)` in [0, 1].

    Components have unit length; where there are fewer masks than components, the rest are zero.
    """
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    _, _, directions = np.linalg.svd(flat - mean, full_matrices=False)
    basis = np.zeros((components, flat.shape[1]))
    kept = min(components, len(directions), max(0, len(masks) - 1))
    basis[:kept] = directions[:kept]
    shape = masks.shape[1:]
    return mean.reshape(shape).astype(np.float32), basis.reshape(components, *shape).astype(np.float32)
