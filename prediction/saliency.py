"""Where a detector looks: Grad-CAM for any network, attention roll-out for transformers, the method's own maps.

All functions take a detector in evaluation mode and uint8 images `(B, 3, H, W)`; maps are float `(B, H, W)` in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.batch import is_map


def fake_logit(prediction: dict[str, Tensor]) -> Tensor:
    """Return log odds of fake `(B,)`; from two logits where there are such, since a saturated probability has no gradient."""
    cls = prediction.get("cls")
    if isinstance(cls, Tensor) and cls.ndim == 2 and cls.shape[1] == 2:
        return cls[:, 1] - cls[:, 0]
    return torch.logit(prediction["prob"].clamp(1e-6, 1 - 1e-6))


def _spread(heat: Tensor, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Enlarge maps `(B, h, w)` to `size`, each scaled so that its largest value is 1."""
    heat = F.interpolate(heat[:, None].float(), size=list(size), mode="bilinear", align_corners=False)[:, 0].clamp_min(
        0
    )
    peak = heat.flatten(1).amax(dim=1).clamp_min(1e-12)
    return (heat / peak[:, None, None]).double().cpu().numpy()


@contextmanager
def _gradients_through_frozen_parts(detector: nn.Module) -> Iterator[None]:
    """Let gradients through towers that cut them off because they do not train."""
    held: list[Any] = [module for module in detector.modules() if getattr(module, "frozen", False) is True]
    for module in held:
        module.frozen = False
    try:
        yield
    finally:
        for module in held:
            module.frozen = True


def _places(output: Any, size: int) -> tuple[Tensor, int] | None:
    """Return a layer's output and how many leading tokens have no place, if it is a feature map or a square of tokens."""
    if not isinstance(output, Tensor) or not output.requires_grad or output.shape[0] != size:
        return None
    if output.ndim == 4 and output.shape[1] >= 8 and min(output.shape[2:]) > 1:
        return output, 0
    if output.ndim == 3:
        for extra in (1, 0):
            side = math.isqrt(output.shape[1] - extra)
            if side > 1 and side * side == output.shape[1] - extra:
                return output, extra
    return None


def grad_cam(detector: Any, image: Tensor) -> NDArray[np.float64] | None:
    """Return Grad-CAM of the fake logit (Selvaraju et al., ICCV 2017).

    The layer is found, not named: the last one in the order of computation whose output has places (a feature map `(B, C, h, w)`,
    or patch tokens `(B, 1 + N, D)`) that still influence the answer. None when there is no such layer.
    """
    outputs: list[tuple[Tensor, int]] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found = _places(output, len(image))
        if found is not None:
            outputs.append(found)

    hooks = [module.register_forward_hook(keep) for module in detector.modules() if module is not detector]
    try:
        with torch.enable_grad(), _gradients_through_frozen_parts(detector):
            batch = detector.prepare({"image": image})
            batch["image"] = batch["image"].detach().requires_grad_(True)
            score = fake_logit(detector(batch, inference=True)).sum()
            gradients = (
                torch.autograd.grad(score, [output for output, _ in outputs], allow_unused=True) if outputs else ()
            )
    finally:
        for hook in hooks:
            hook.remove()
    for (output, extra), gradient in reversed(list(zip(outputs, gradients))):
        if gradient is None:
            continue
        if output.ndim == 3:  # (B, 1 + N, D) → (B, D, h, w)
            side = math.isqrt(output.shape[1] - extra)
            output, gradient = (v[:, extra:].transpose(1, 2).unflatten(2, (side, side)) for v in (output, gradient))
        if gradient.abs().amax() > 0:
            weight = gradient.mean(dim=(2, 3), keepdim=True)
            return _spread((weight * output).sum(dim=1).clamp_min(0).detach(), tuple(image.shape[-2:]))
    return None


def attention_rollout(detector: Any, image: Tensor) -> NDArray[np.float64] | None:
    """Return attention roll-out from the class token (Abnar & Zuidema, ACL 2020): heads averaged, half of it the identity.

    None when the network has no `nn.MultiheadAttention` over a class token and a square of patches.
    """
    weights: list[Tensor] = []

    def ask(_module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, kwargs | {"need_weights": True, "average_attn_weights": True}

    def keep(_module: nn.Module, _args: tuple, output: Any) -> None:
        attention = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if attention is not None and attention.ndim == 3 and attention.shape[0] == len(image):
            weights.append(attention.detach())

    hooks = []
    for module in detector.modules():
        if isinstance(module, nn.MultiheadAttention):
            hooks += [module.register_forward_pre_hook(ask, with_kwargs=True), module.register_forward_hook(keep)]
    try:
        with torch.no_grad():
            detector(detector.prepare({"image": image}), inference=True)
    finally:
        for hook in hooks:
            hook.remove()
    if not weights:
        return None
    tokens = weights[-1].shape[1]
    side = math.isqrt(tokens - 1)
    if side * side != tokens - 1:
        return None
    flow = torch.eye(tokens, device=weights[0].device).expand(len(image), -1, -1)
    for attention in weights:
        if attention.shape[1:] == (tokens, tokens):
            flow = (0.5 * attention.float() + 0.5 * torch.eye(tokens, device=attention.device)) @ flow
    return _spread(flow[:, 0, 1:].unflatten(1, (side, side)), tuple(image.shape[-2:]))


def own_maps(detector: Any, image: Tensor) -> dict[str, NDArray[np.float64]]:
    """Return the maps `(B, 1, h, w)` among a detector's predictions, by name."""
    with torch.no_grad():
        prediction = detector(detector.prepare({"image": image}), inference=True)
    return {
        name: _spread(value[:, 0], tuple(image.shape[-2:]))
        for name, value in prediction.items()
        if is_map(value, len(image))
    }


def all_maps(detector: Any, image: Tensor) -> dict[str, NDArray[np.float64]]:
    """Return every map that this detector has, by name."""
    maps = {"Grad-CAM": grad_cam(detector, image), "attention roll-out": attention_rollout(detector, image)}
    return {name: heat for name, heat in maps.items() if heat is not None} | own_maps(detector, image)
