"""Capsules of Capsule-Forensics (Nguyen et al., ICASSP 2019; arXiv 1910.12467): own code, no library has them.

Shapes: B images, P primary capsules of 8 values, C class capsules of 4.
"""

import torch
from torch import Tensor, nn

PRIMARY_SIZE = 8


def squash(x: Tensor, dim: int) -> Tensor:
    """Return x with its direction along `dim` and norm n²/(1 + n²) (Sabour et al., NeurIPS 2017, eq. 1); 0 stays 0."""
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x * norm / (1 + norm**2)


class Statistics(nn.Module):
    """Mean and standard deviation of every channel over a map: `(B, C, H, W)` → `(B, 2, C)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the two, which makes what follows independent of the map's size."""
        places = x.flatten(2)
        return torch.stack([places.mean(dim=2), places.std(dim=2)], dim=1)


class PrimaryCapsule(nn.Sequential):
    """One primary capsule: two 2-D convolutions, statistics, two 1-D convolutions: `(B, 256, H, W)` → `(B, 8)`."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(256, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            Statistics(),
            nn.Conv1d(2, PRIMARY_SIZE, 5, stride=2, padding=2),
            nn.BatchNorm1d(PRIMARY_SIZE),
            nn.Conv1d(PRIMARY_SIZE, 1, 3, padding=1),
            nn.BatchNorm1d(1),
            nn.Flatten(),
        )
        for layer in self:
            if isinstance(layer, nn.Conv1d | nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)


class PrimaryCapsules(nn.Module):
    """The primary capsules: `(B, 256, H, W)` → `(B, 8, P)`.

    They are squashed over the P capsules, not over the 8 values of each, as in the authors' code and all weights of it.
    """

    def __init__(self, count: int):
        super().__init__()
        self.capsules = nn.ModuleList(PrimaryCapsule() for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """Return the squashed capsules."""
        return squash(torch.stack([capsule(x) for capsule in self.capsules], dim=-1), dim=-1)


class DynamicRouting(nn.Module):
    """Routing by agreement from primary to class capsules: `(B, 8, P)` → `(B, 4, C)`.

    Agreement is taken value by value, so that each of a capsule's values is routed for itself (the authors' choice).
    """

    def __init__(self, primary: int, classes: int, size: int, iterations: int, noise: float, dropout: float):
        """`noise`: deviation added to the weights in training; `dropout`: share of predictions dropped, not rescaled."""
        super().__init__()
        self.iterations, self.noise, self.dropout = iterations, noise, dropout
        self.route_weights = nn.Parameter(torch.randn(classes, primary, size, PRIMARY_SIZE))

    def forward(self, capsules: Tensor) -> Tensor:
        """Return the class capsules, their norms below 1."""
        weights: Tensor = self.route_weights
        if self.training and self.noise:
            weights = weights + self.noise * torch.randn_like(weights)
        predicted = torch.einsum("cpod,bdp->bcpo", weights, capsules)  # what each primary capsule expects of each class
        if self.training and self.dropout:
            predicted = predicted * torch.empty_like(predicted).bernoulli_(1 - self.dropout)
        agreement = torch.zeros_like(predicted)
        for _ in range(self.iterations - 1):
            agreement = agreement + predicted * self._gathered(predicted, agreement).unsqueeze(2)
        return self._gathered(predicted, agreement).transpose(1, 2)

    @staticmethod
    def _gathered(predicted: Tensor, agreement: Tensor) -> Tensor:
        """Return `(B, C, 4)`: predictions weighed by the softmax of their agreement over primary capsules."""
        return squash((agreement.softmax(dim=2) * predicted).sum(dim=2), dim=2)
