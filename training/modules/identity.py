"""Identity-invariant learning: a discriminator that tries to name the person, behind a reversed gradient.

Detectors that know who is shown fail on strangers ("implicit identity leakage", Dong et al., CVPR 2023). The discriminator
learns to read the identity from CLS, and the reversed gradient makes CLS forget it (Ganin & Lempitsky, ICML 2015).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.config.schema import NonNegative, Positive, Section


class IdentityConfig(Section):
    """Keys of the identity head.

    `which` says whose identity is to be forgotten. A face swap shows the source's inner face on the target's head, so both
    are seen. `target` is the default: hair, ears, skin around the face and the scene are the target's in every manipulation,
    reenactments (Face2Face, NeuralTextures) included, where nothing of the source is visible at all; with `source` those
    fakes would be labelled with a person who is not in the picture. `source` suits sets that hold face swaps only.
    """

    enabled: bool = True
    which: Literal["target", "source"] = "target"
    hidden: int = Field(256, ge=1)
    weight: NonNegative = 0.1
    top: Positive = Field(1.0, description="largest λ, reached at the end of training")


class DomainConfig(Section):
    """Keys of the domain discriminator: which training set a sample is from, to be forgotten likewise."""

    enabled: bool = False
    hidden: int = Field(128, ge=1)
    weight: NonNegative = 0.1


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


class Discriminator(nn.Module):
    """Gradient reversal and a two-layer perceptron over `classes`.

    Attributes:
        strength: λ, set from the clock before each step.
    """

    def __init__(self, dim: int, classes: int, hidden: int):
        super().__init__()
        self.strength = 0.0
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, classes))

    def forward(self, feat: Tensor) -> Tensor:
        """Return logits `(B, classes)` of features `(B, D)`."""
        return self.net(reverse_gradient(feat, self.strength))
