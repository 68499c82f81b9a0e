"""Gaussians of vectors that pass by once: sums are kept instead of the vectors, and a covariance is made of the sums.

Half an epoch's patches are gigabytes; their sums are a few megabytes, add up exactly the same whoever holds them, and go into a
checkpoint. The covariance is Ledoit & Wolf's ("A well-conditioned estimator for large-dimensional covariance matrices", 2004).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from training.ops.full_precision import full_precision


@dataclass(frozen=True)
class Moments:
    """Sums over vectors x of D numbers, in float64.

    Attributes:
        count: how many. first: Σ x `(D,)`. second: Σ x xᵀ `(D, D)`. third: Σ |x|² x `(D,)`. fourth: Σ |x|⁴.
    """

    count: Tensor
    first: Tensor
    second: Tensor
    third: Tensor
    fourth: Tensor

    @classmethod
    def none(cls, width: int) -> Moments:
        """Return the sums over no vector."""
        zero = torch.zeros((), dtype=torch.float64)
        return cls(zero, zero.new_zeros(width), zero.new_zeros(width, width), zero.new_zeros(width), zero)

    @full_precision
    def plus(self, vectors: Tensor) -> Moments:
        """Return the sums with vectors `(n, D)` added, where these are."""
        x = vectors.detach().double()
        square = x.square().sum(dim=1, keepdim=True)  # (n, 1)
        new = (x.new_tensor(len(x)), x.sum(0), x.mT @ x, (square * x).sum(0), square.square().sum())
        own = (getattr(self, field.name).to(x.device) for field in fields(self))
        return Moments(*(a + b for a, b in zip(own, new, strict=True)))

    def state(self) -> dict[str, Tensor]:
        """Return plain tensors, of which `Moments(**state)` is this again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Gaussian:
    """A multivariate normal distribution: `mean` `(D,)` and `precision` `(D, D)`, the inverse covariance, float32."""

    mean: Tensor
    precision: Tensor

    @classmethod
    def of(cls, moments: Moments) -> Gaussian | None:
        """Return the Gaussian of the vectors that were summed; None where they do not vary."""
        if float(moments.count) < 2:
            return None
        mean = moments.first / moments.count
        factor, failed = torch.linalg.cholesky_ex(shrunk_covariance(moments))
        if failed or not torch.isfinite(factor).all():
            return None
        return cls(mean.float(), torch.cholesky_inverse(factor).float())

    @full_precision
    def distance(self, vectors: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance `(…)` of vectors `(…, D)`."""
        off = vectors.float() - self.mean.to(vectors.device)
        return ((off @ self.precision.to(vectors.device)) * off).sum(dim=-1)

    def state(self) -> dict[str, Tensor]:
        """Return plain tensors, of which `Gaussian(**state)` is this again."""
        return {"mean": self.mean, "precision": self.precision}


def shrunk_covariance(moments: Moments) -> Tensor:
    """Return the covariance `(D, D)`, drawn towards the round one of the same trace by what its own noise asks for."""
    mean = moments.first / moments.count
    covariance = moments.second / moments.count - torch.outer(mean, mean)
    width = len(mean)
    # Σ |x − μ|⁴ by the sums over x.
    along = mean @ moments.second @ mean
    norm = mean @ mean
    fourth = (
        moments.fourth
        - 4 * mean @ moments.third
        + 2 * norm * moments.second.trace()
        + 4 * along
        - 3 * moments.count * norm.square()
    )
    size = covariance.square().sum()
    round_one = covariance.trace() / width
    noise = (fourth / moments.count - size) / moments.count
    shape = size - width * round_one.square()
    share = torch.where(shape > 0, (noise / shape).clamp(0, 1), torch.zeros_like(shape))
    return (1 - share) * covariance + share * round_one * torch.eye(width, dtype=mean.dtype, device=mean.device)
