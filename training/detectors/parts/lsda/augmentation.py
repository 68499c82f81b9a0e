"""New forgeries out of known ones' features (LSDA: Yan et al., CVPR 2024, section 3.2).

Features are maps `(D, G, C, h, w)` of D domains (kinds of forgery) in G groups. Within its domain a map takes a step in one of
several directions, z + β · direction:

* `centrifugal`: away from the domain's centre, z − μ;
* `hard`: towards the domain's map that is farthest from that centre;
* `affine`: to itself, turned and scaled about its middle (all the way: β = 1);
* `additive`: noise of a random deviation, which is a mixture of Gaussians around 0;
* `difference`: along the difference of two other maps of the domain (DeepfakeBench's, in the place of `affine`).

Across domains it is mixed with another domain's map of its own group.

What is random about a group follows from one integer that comes with its data (`Chances`), so that neither the number of
processes nor a resume changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Transform = Literal["centrifugal", "hard", "affine", "additive", "difference"]


@dataclass(frozen=True)
class Limits:
    """What is drawn from: kinds of steps, degrees and factors of `affine`, and α of mixing's Beta(α, α)."""

    transforms: tuple[Transform, ...] = ("centrifugal", "hard", "affine", "additive")
    degrees: float = 30.0
    scale: tuple[float, float] = (0.8, 1.25)
    alpha: tuple[float, float] = (0.5, 2.0)


@dataclass(frozen=True)
class Chances:
    """Everything random about an augmentation.

    Attributes:
        kind: `(D, G)` position in `Limits.transforms`. amount: `(D, G)` β in [0, 1). turn: `(D, G, hw, hw)`, see `turning`.
        noise: `(D, G, C, h, w)`. pair: `(D, G, 2)` in [0, 1), which maps `difference` takes. partner: `(D, G)` the domain that is
        mixed in. share: `(D, G)` of the own one, the same in a group.
    """

    kind: Tensor
    amount: Tensor
    turn: Tensor
    noise: Tensor
    pair: Tensor
    partner: Tensor
    share: Tensor

    @classmethod
    def of(cls, seeds: Sequence[int], shape: tuple[int, int, int, int], limits: Limits) -> Chances:
        """Return the chances of groups by their seeds, for `(D, C, h, w)` maps each; on the CPU."""
        groups = [_of_a_group(np.random.default_rng([seed]), shape, limits) for seed in seeds]
        stacked = {field.name: np.stack([g[field.name] for g in groups], axis=1) for field in fields(cls)}
        whole = ("kind", "partner")
        return cls(**{k: torch.from_numpy(v if k in whole else v.astype(np.float32)) for k, v in stacked.items()})

    def to(self, device: torch.device) -> Chances:
        """Return them on a device."""
        return Chances(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def _of_a_group(rng: np.random.Generator, shape: tuple[int, int, int, int], limits: Limits) -> dict[str, np.ndarray]:
    domains, _, height, width = shape
    alpha = rng.uniform(*limits.alpha)
    degrees = rng.uniform(-limits.degrees, limits.degrees, domains)
    low, high = np.log(limits.scale)
    scales = np.exp(rng.uniform(low, high, domains))
    deviation = rng.random((domains, 1, 1, 1))
    return {
        "kind": rng.integers(len(limits.transforms), size=domains),
        "amount": rng.random(domains),
        "turn": np.stack([turning(height, width, d, s) for d, s in zip(degrees, scales, strict=True)]),
        "noise": deviation * rng.standard_normal(shape),
        "pair": rng.random((domains, 2)),
        "partner": rng.permutation(domains),
        "share": np.full(domains, rng.beta(alpha, alpha)),
    }


def turning(height: int, width: int, degrees: float, scale: float) -> np.ndarray:
    """Return `(hw, hw)`, by which a flat map is turned counter-clockwise and enlarged about its middle; bilinear, 0 outside.

    A matrix product gives the same bits each time, which sampling's gradient on a GPU does not.
    """
    y, x = np.mgrid[:height, :width].reshape(2, -1) - np.array([[height - 1], [width - 1]]) / 2
    angle = np.deg2rad(degrees)
    from_x = (np.cos(angle) * x - np.sin(angle) * y) / scale
    from_y = (np.sin(angle) * x + np.cos(angle) * y) / scale
    across = np.maximum(0, 1 - np.abs(from_x[:, None] - x[None]))
    return across * np.maximum(0, 1 - np.abs(from_y[:, None] - y[None]))


def within_domain(maps: Tensor, everyone: Tensor, chances: Chances, limits: Limits) -> Tensor:
    """Return each map after a step within its domain, `(D, G, C, h, w)`.

    Args:
        maps: `(D, G, C, h, w)`.
        everyone: `(D, N, C, h, w)` of all processes, whose centres and farthest maps count.
    """
    centre = everyone.mean(dim=1, keepdim=True)  # (D, 1, C, h, w)
    steps = torch.zeros_like(maps)
    for number, kind in enumerate(limits.transforms):
        amount = torch.ones_like(chances.amount) if kind == "affine" else chances.amount
        weight = torch.where(chances.kind == number, amount, 0.0)[..., None, None, None]
        steps = steps + weight * _direction(kind, maps, everyone, centre, chances)
    return maps + steps


def _direction(kind: Transform, maps: Tensor, everyone: Tensor, centre: Tensor, chances: Chances) -> Tensor:
    domain = torch.arange(len(maps), device=maps.device)
    if kind == "centrifugal":
        return maps - centre
    if kind == "hard":
        distance = (everyone - centre).detach().flatten(2).norm(dim=2)  # (D, N)
        return everyone[domain, distance.argmax(dim=1)][:, None] - maps
    if kind == "affine":
        turned = torch.einsum("dgpq,dgcq->dgcp", chances.turn, maps.flatten(3))
        return turned.view_as(maps) - maps
    if kind == "additive":
        return chances.noise
    taken = (chances.pair * everyone.shape[1]).long().clamp_max(everyone.shape[1] - 1)  # (D, G, 2)
    first, second = everyone[domain[:, None, None], taken].unbind(dim=2)
    return first - second


def across_domains(maps: Tensor, chances: Chances) -> Tensor:
    """Return each map mixed with another domain's of its group, `(D, G, C, h, w)` (mixup: Zhang et al., ICLR 2018)."""
    group = torch.arange(maps.shape[1], device=maps.device)
    share = chances.share[..., None, None, None]
    return share * maps + (1 - share) * maps[chances.partner, group]
