"""Orthogonal subspace decomposition of attention (Effort: Yan et al., ICML 2025, arXiv 2411.15633, section 4).

Every attention matrix W of n singular values is split by its SVD into a principal part of n − k values, which stays frozen, and a
residual part U·diag(s)·Vᵀ of the k smallest, which trains. Two losses keep the residual beside the principal part, each the
mean over all matrices:

    orthogonality   ‖ÛᵀÛ − I‖² + ‖V̂ᵀV̂ − I‖²      Û, V̂: frozen and trained singular vectors side by side   (eq. 5)
    singular_values | ‖Ŵ‖² − ‖W‖² |                 Ŵ: the matrix as it is now                              (eq. 6)

Neither n×n product is made. With C the part of an orthonormal basis that the frozen vectors U_r leave out (for k = 1 a single
vector), ‖ÛᵀÛ − I‖² is ‖UᵀU − I‖² + 2‖U − CCᵀU‖²; and ‖Ŵ‖² − ‖W‖² is 2⟨W_r, ΔW⟩ + ‖ΔW‖² − Σs₀², which loses no digits
to the large ‖W‖². Likewise ΔW·x is computed through its k directions: no gradient of an n×n matrix is ever needed.

peft's OSF decomposes alike but projects the gradients of U and V onto what the frozen vectors leave out. With k = 1 and a square
matrix that is U itself: only lengths could train, and the directions that the paper's penalty lets turn would stand still
(a test shows it). It also makes W of all its parts in every forward pass. So it is not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import ConfigError
from training.config.schema import NonNegative, Section
from training.networks.low_rank import LinearAttention
from training.networks.tuning import Strategy
from training.ops.full_precision import full_precision

# Linear layers of an attention module by name → how many matrices stand one above the other in it.
PROJECTIONS = {"qkv": 3, "q_proj": 1, "k_proj": 1, "v_proj": 1, "out": 1, "out_proj": 1, "proj": 1}
_ASKED = ("qkv", "q_proj")  # an attention module has one of these


class EffortKeys(Section):
    """How the attention matrices are split, and what keeps the parts apart."""

    residual_rank: int = Field(
        1, ge=1, description="singular values of each matrix that train; the largest stay frozen"
    )
    orthogonality: NonNegative = Field(1.0, description="weight of the loss on singular vectors (the paper's λ1)")
    singular_values: NonNegative = Field(1.0, description="weight of the loss on the matrices' norms (the paper's λ2)")


class SplitLinear(nn.Module):
    """A linear layer whose matrices are each a frozen principal part and a trained residual.

    Attributes:
        weight, bias: frozen; the principal parts `(p·o, i)` of p matrices.
        left `(p, o, k)`, scale `(p, k)`, right `(p, k, i)`: the residuals, which train.
        left_free `(p, o, ·)`, right_free `(p, ·, i)`: orthonormal directions that the principal parts leave out; NaN when they
            are still to be computed from the weight, as for weights published without them.
        energy `(p,)`: ‖W‖² − ‖W_r‖² of the matrices that the layer began with.
    """

    weight: nn.Parameter
    left_free: Tensor
    right_free: Tensor
    energy: Tensor

    def __init__(self, linear: nn.Linear, parts: int, rank: int, trained: bool):
        super().__init__()
        out, inside = linear.out_features // parts, linear.in_features
        if rank >= min(out, inside):
            raise ConfigError(
                f"effort.residual_rank {rank} leaves no principal part of {out}×{inside} matrices; lower it"
            )
        whole = linear.weight.detach().unflatten(0, (parts, out))  # (p, o, i)
        left_free, scale, right_free = _decompose(whole, rank) if trained else _stand_in(whole, rank)
        left, right = left_free[..., :rank].clone(), right_free[:, :rank].clone()
        self.weight = nn.Parameter((whole - _product(left, scale, right)).flatten(0, 1), requires_grad=False)
        self.bias = linear.bias
        self.left, self.scale, self.right = nn.Parameter(left), nn.Parameter(scale), nn.Parameter(right)
        self.register_buffer("left_free", left_free)
        self.register_buffer("right_free", right_free)
        self.register_buffer("energy", scale.square().sum(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return Ŵx + b, `(…, p·o)` of `(…, i)`."""
        parts, _, rank = self.left.shape
        inner = F.linear(x, self.right.flatten(0, 1)) * self.scale.flatten()  # (…, p·k)
        residual = torch.einsum("...pk,pok->...po", inner.unflatten(-1, (parts, rank)), self.left)
        return F.linear(x, self.weight, self.bias) + residual.flatten(-2)

    def whole(self) -> Tensor:
        """Return the matrices Ŵ as they are now, `(p·o, i)`."""
        return self.weight + _product(self.left, self.scale, self.right).flatten(0, 1)

    def merged(self) -> nn.Linear:
        """Return a plain linear layer with the same answers."""
        plain = nn.Linear(self.weight.shape[1], self.weight.shape[0], bias=self.bias is not None, device="meta")
        plain.weight, plain.bias = nn.Parameter(self.whole().detach()), self.bias
        return plain

    def _principal(self) -> Tensor:
        return self.weight.detach().unflatten(0, (len(self.left), -1))

    def orthogonality(self) -> Tensor:
        """Return ‖ÛᵀÛ − I‖² + ‖V̂ᵀV̂ − I‖² of each matrix, `(p,)`."""
        self._find_directions()
        return _apart(self.left, self.left_free) + _apart(self.right.mT, self.right_free.mT)

    def singular_values(self) -> Tensor:
        """Return |‖Ŵ‖² − ‖W‖²| of each matrix, `(p,)`."""
        return (added_energy(self._principal().float(), self.left, self.scale, self.right) - self.energy).abs()

    @torch.no_grad()
    def _find_directions(self) -> None:
        if not self.left_free.isnan().any():
            return
        rank = self.scale.shape[1]
        left, _, right = torch.linalg.svd(self._principal().float())
        kept = min(self.left.shape[1], self.right.shape[2]) - rank
        self.left_free.copy_(left[..., kept:])
        self.right_free.copy_(right[:, kept:])


def _decompose(whole: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return, of each matrix, left vectors from the k-th last singular value on, those k values, and right vectors."""
    left, values, right = torch.linalg.svd(whole.float())
    kept = values.shape[1] - rank
    return left[..., kept:].contiguous(), values[:, kept:].contiguous(), right[:, kept:].contiguous()


def _stand_in(whole: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return any orthonormal directions in the shapes of `_decompose`: where weights follow, none are principal yet."""
    _, out, inside = whole.shape
    kept = min(out, inside) - rank
    left, right = (
        torch.linalg.qr(torch.randn(len(whole), side, side - kept, device=whole.device))[0] for side in (out, inside)
    )
    scale = whole.float().std().expand(len(whole), rank).clone()
    return left.contiguous(), scale, right.mT.contiguous()


def _product(left: Tensor, scale: Tensor, right: Tensor) -> Tensor:
    return (left * scale[:, None]) @ right


@full_precision
def added_energy(principal: Tensor, left: Tensor, scale: Tensor, right: Tensor) -> Tensor:
    """Return ‖W_r + ΔW‖² − ‖W_r‖² of each matrix, `(p,)`."""
    cross = (left * (principal @ right.mT)).sum(1) * scale  # sₖ·uₖᵀW_r vₖ
    own = (left.mT @ left) * (right @ right.mT) * scale[:, :, None] * scale[:, None]
    return 2 * cross.sum(1) + own.sum((1, 2))


@full_precision
def _apart(vectors: Tensor, free: Tensor) -> Tensor:
    """Return ‖ÛᵀÛ − I‖² of each matrix: U `(p, o, k)`, C `(p, o, ·)` → `(p,)`."""
    gram = vectors.mT @ vectors - torch.eye(vectors.shape[2], device=vectors.device)
    astray = vectors - free @ (free.mT @ vectors)
    return gram.square().sum((1, 2)) + 2 * astray.square().sum((1, 2))


def split_layers(network: nn.Module) -> Iterator[SplitLinear]:
    """Yield the split layers of a network."""
    return (module for module in network.modules() if isinstance(module, SplitLinear))


class Chosen(Strategy):
    """Splits every attention projection of a network; the residuals train, and nothing else."""

    def apply(self, network: nn.Module, keys: Any, trained: bool) -> None:
        keys = keys or EffortKeys()
        _take_apart(network)
        owners = [m for m in network.modules() if any(isinstance(getattr(m, n, None), nn.Linear) for n in _ASKED)]
        if not owners:
            raise ConfigError(
                "tuning effort: this network has no attention with matrices of its own; choose another tuning"
            )
        for owner in owners:
            for name, parts in PROJECTIONS.items():
                linear = getattr(owner, name, None)
                if isinstance(linear, nn.Linear):
                    setattr(owner, name, SplitLinear(linear, parts, keys.residual_rank, trained))

    def merge(self, network: nn.Module) -> None:
        for owner in list(network.modules()):
            for name, child in list(owner.named_children()):
                if isinstance(child, SplitLinear):
                    setattr(owner, name, child.merged())
        for owner in list(network.modules()):
            for name, child in list(owner.named_children()):
                if isinstance(child, LinearAttention):
                    setattr(owner, name, child.fused())

    def constraints(self, network: nn.Module, keys: Any) -> dict[str, tuple[Tensor, float]]:
        found = {}
        for name, weight in self.constraint_weights(keys).items():
            each = [getattr(layer, name)() for layer in split_layers(network)]
            found[name] = (torch.cat(each).mean(), weight)
        return found

    def constraint_weights(self, keys: Any) -> dict[str, float]:
        keys = keys or EffortKeys()
        return {name: weight for name in ("orthogonality", "singular_values") if (weight := getattr(keys, name))}


def _take_apart(network: nn.Module) -> None:
    """Replace fused attention by linear layers with the same numbers."""
    for owner in list(network.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(owner, name, LinearAttention(child))
