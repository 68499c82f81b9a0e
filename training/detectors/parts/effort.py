"""Names of published Effort weights (DeepfakeBench's and the authors' own) under ours.

There every projection of Hugging Face's CLIP holds `weight_main` and the factors `U_residual` `(o, k)`, `S_residual` `(k,)` and
`V_residual` `(k, i)`; some files also hold the frozen factors `U_r`, `S_r`, `V_r`, whose product `weight_main` is. What the
constraints compare with is not in such files: directions are found from the principal part when a loss first asks (NaN until
then), and the norm that counts as the original one is that of the weights as loaded.
"""

from __future__ import annotations

import re

import torch

from common.errors import WeightsError
from training.networks.conversion.clip_keys import tower_state
from training.networks.tuning.effort import added_energy
from training.networks.weights import State

_FACTOR = re.compile(r"^(.*)\.layers\.(\d+)\.self_attn\.(\w+)_proj\.([USV])_(residual|r)$")
# Our layer → the projections that it joins.
_LAYERS = (("qkv", ("q", "k", "v")), ("out", ("out",)))


def split_tower(state: State) -> State:
    """Return the tower's tensors under our names (without `tower.visual.`).

    Raises:
        WeightsError: a projection lacks one of its factors.
    """
    plain, factors = {}, {}
    for key, value in state.items():
        found = _FACTOR.match(key)
        if found is None:
            plain[key.replace(".weight_main", ".weight")] = value
        elif found.group(5) == "residual":
            factors[int(found.group(2)), found.group(3), found.group(4)] = value
    named = {
        key.replace(".attn.in_proj_", ".attn.qkv.").replace(".attn.out_proj.", ".attn.out."): value
        for key, value in tower_state(plain).items()
    }
    for number in sorted({key[0] for key in factors}):
        for layer, projections in _LAYERS:
            left, scale, right = (
                torch.stack([_factor(factors, number, name, kind) for name in projections]) for kind in "USV"
            )
            stem = f"transformer.resblocks.{number}.attn.{layer}"
            principal = named[f"{stem}.weight"].unflatten(0, (len(left), -1))
            named |= {
                f"{stem}.left": left,
                f"{stem}.scale": scale,
                f"{stem}.right": right,
                f"{stem}.left_free": torch.full_like(left, torch.nan),
                f"{stem}.right_free": torch.full_like(right, torch.nan),
                f"{stem}.energy": added_energy(principal, left, scale, right),
            }
    return named


def _factor(factors: dict[tuple[int, str, str], torch.Tensor], number: int, name: str, kind: str) -> torch.Tensor:
    if (number, name, kind) not in factors:
        raise WeightsError(
            f"they lack `layers.{number}.self_attn.{name}_proj.{kind}_residual`; copy or download them again"
        )
    return factors[number, name, kind]
