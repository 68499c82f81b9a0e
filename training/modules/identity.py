"""Identity-invariant learning: a discriminator that tries to name the person, behind a reversed gradient.

Detectors that know who is shown fail on strangers ("implicit identity leakage", Dong et al., CVPR 2023). The discriminator
learns to read the identity, and the reversed gradient makes the features forget it (Ganin & Lempitsky, ICML 2015).

Three things decide whether anything is forgotten (figures: README, "Ablation"):
- What it reads. Features are made of CLS, patches and frequency; if CLS alone forgets, the others still tell.
- That it can read. CLIP's vectors lie in a narrow cone: nearly all of their length is common to everybody, so the
  discriminator standardises its input.
- That it is never sure of itself. A reversed cross-entropy has no upper end: a network that trains as fast as its adversary
  makes that confidently wrong, which exchanges people instead of hiding them, and a new reader finds them more easily than
  before. A strong weight decay keeps the discriminator's logits small and its memory short, its loss just below log(people).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.config.schema import NonNegative, Positive, Section

#: share of its weights that a discriminator forgets in a step at most: with a high learning rate, decay would blow them up
FORGOTTEN = 0.1


class AdversaryConfig(Section):
    """Keys of a discriminator behind a gradient reversal."""

    enabled: bool = False
    hidden: int = Field(256, ge=1, le=65536)
    weight: NonNegative = 1.0
    reads: Literal["features", "cls"] = Field("features", description="what is to forget: unit features, or CLS alone")
    weight_decay: NonNegative = Field(
        50.0, description="of the discriminator's own weights, decoupled, at most 0.1 / lr; keeps it from being sure"
    )


class IdentityConfig(AdversaryConfig):
    """Keys of the identity head.

    `which` says whose identity is to be forgotten. A face swap shows the source's inner face on the target's head, so both
    are seen. `target` is the default: hair, ears, skin around the face and the scene are the target's in every manipulation,
    reenactments (Face2Face, NeuralTextures) included, where nothing of the source is visible at all; with `source` those
    fakes would be labelled with a person who is not in the picture. `source` suits sets that hold face swaps only.
    """

    enabled: bool = True
    which: Literal["target", "source"] = "target"
    top: Positive = Field(1.0, description="largest λ, reached at the end of training")


class DomainConfig(AdversaryConfig):
    """Keys of the domain discriminator: which training set a sample is from, to be forgotten likewise."""


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """Return x; its gradient comes back multiplied by −λ (strength)."""
    return _Reverse.apply(x, strength)


def reversal_strength(progress: float, top: float = 1.0) -> float:
    """Return λ = top · (2 / (1 + exp(−10 p)) − 1) for the share p of training done (Ganin & Lempitsky, section 5.2)."""
    return top * (2 / (1 + math.exp(-10 * progress)) - 1)


class _Standardise(nn.BatchNorm1d):
    """BatchNorm without gain and bias; a sample that is alone in its batch is standardised by the running statistics."""

    def __init__(self, dim: int):
        super().__init__(dim, affine=False)

    def forward(self, feat: Tensor) -> Tensor:
        if self.training and len(feat) < 2:
            return functional.batch_norm(feat, self.running_mean, self.running_var, eps=self.eps)
        return super().forward(feat)


class Discriminator(nn.Module):
    """Gradient reversal and a two-layer perceptron over `classes`, on standardised features.

    Attributes:
        strength: λ, set from the clock before each step.
    """

    def __init__(self, dim: int, classes: int, hidden: int):
        super().__init__()
        self.strength = 0.0
        self.net = nn.Sequential(_Standardise(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, classes))

    def forward(self, feat: Tensor) -> Tensor:
        """Return logits `(B, classes)` of features `(B, D)`."""
        return self.net(reverse_gradient(feat, self.strength))
