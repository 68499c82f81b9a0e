"""Where a detector looks: Grad-CAM for any network, attention roll-out for transformers, the method's own maps.

All functions take a detector in evaluation mode and uint8 images `(B, 3, H, W)`; maps are float `(B, H, W)` in [0, 1]. Of clips
`(B, T, 3, H, W)` there is Grad-CAM alone, `(B, T, H, W)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.batch import is_map


def fake_logit(prediction: dict[str, Tensor]) -> Tensor:
    """Return log odds of fake `(B,)`; from the one logit or the two where there are such, since a saturated probability has
    no gradient."""
    cls, logit = prediction.get("cls"), prediction.get("logit")
    if isinstance(cls, Tensor) and cls.ndim == 2 and cls.shape[1] == 2:
        return cls[:, 1] - cls[:, 0]
    if isinstance(logit, Tensor):
        return logit.flatten()
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


@dataclass(frozen=True)
class _Layout:
    """How a layer's output holds places: as maps or as a row of tokens, of all frames or with frames in the batch.

    Attributes:
        side: of a square of tokens; 0 for maps. extra: leading tokens without a place. frames: moments that it tells apart.
        folded: whether they stand in the batch. last: whether a map's channels come last.
    """

    side: int = 0
    extra: int = 0
    frames: int = 1
    folded: bool = False
    last: bool = False

    def volume(self, value: Tensor, batch: int) -> Tensor:
        """Return an output of this layout, or its gradient, as `(B, C, t, h, w)`."""
        if value.ndim == 5:
            return value
        if self.side:  # ([B t], 1 + N, D) or (B, 1 + t N, D) → (B, D, t, h, w)
            value = value[:, self.extra :].reshape(batch, self.frames, self.side, self.side, -1)
            return value.permute(0, 4, 1, 2, 3)
        if self.last:
            value = value.permute(0, 3, 1, 2)
        return value.unflatten(0, (batch, self.frames)).transpose(1, 2)  # ([B t], C, h, w) → (B, C, t, h, w)


def _layout(output: Any, batch: int, frames: int, sides: set[int]) -> _Layout | None:
    """Return how a layer's output holds places; None where it has none.

    Args:
        frames: of a clip; 1 for an image. sides: of maps seen so far in a clip, for tokens of all frames in one row tell neither
            how many are of one moment nor whether they are places at all. They are taken to come moment by moment.
    """
    if not isinstance(output, Tensor) or not output.requires_grad or output.ndim < 3:
        return None
    if output.ndim == 5:
        known = output.shape[0] == batch and output.shape[1] >= 8 and output.shape[2] <= frames
        return _Layout(frames=output.shape[2]) if known and min(output.shape[3:]) > 1 else None
    moments = output.shape[0] // batch
    if output.shape[0] != moments * batch or frames % max(moments, 1):
        return None
    folded = moments > 1
    if output.ndim == 4:
        last = output.shape[1] == output.shape[2] != output.shape[3]
        channels, side = (output.shape[3], output.shape[1]) if last else (output.shape[1], min(output.shape[2:]))
        return _Layout(frames=moments, folded=folded, last=last) if channels >= 8 and side > 1 else None
    for extra in (1, 0):
        for parts in [1] if folded or frames == 1 else range(1, frames + 1):
            side = math.isqrt((output.shape[1] - extra) // parts)
            fits = side > 1 and parts * side * side == output.shape[1] - extra and frames % parts == 0
            if fits and (frames == 1 or side in sides):
                return _Layout(side, extra, moments if folded else parts, folded)
    return None


def grad_cam(detector: Any, image: Tensor) -> NDArray[np.float64] | None:
    """Return Grad-CAM of the fake logit (Selvaraju et al., ICCV 2017); over a clip one map a frame, on one scale.

    The layer is found, not named: the last one in the order of computation whose output has places (a feature map `(B, C, h, w)`
    or `(B, C, t, h, w)`, or patch tokens `(B, 1 + N, D)`, with a clip's frames in the batch or in the row) that still influence
    the answer. A layer that sees all frames at once gives all of them its map; where it sees a thumbnail of them
    (`thumbnail_rows`), each gets its part. None when there is no such layer.
    """
    outputs: list[tuple[Tensor, _Layout]] = []
    batch, frames = len(image), image.shape[1] if image.ndim == 5 else 1
    sides: set[int] = set()

    def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(module, nn.Dropout | nn.Softmax):  # attention among tokens is square too, and no map of places
            return
        found = _layout(output, batch, frames, sides)
        if found is not None:
            outputs.append((output, found))
            sides.update([] if found.side else [found.volume(output, batch).shape[-1]])

    hooks = [module.register_forward_hook(keep) for module in detector.modules() if module is not detector]
    try:
        with torch.enable_grad(), _gradients_through_frozen_parts(detector):
            ready = detector.prepare({"image": image})
            ready["image"] = ready["image"].detach().requires_grad_(True)
            score = fake_logit(detector(ready, inference=True)).sum()
            gradients = (
                torch.autograd.grad(score, [output for output, _ in outputs], allow_unused=True) if outputs else ()
            )
    finally:
        for hook in hooks:
            hook.remove()
    for (output, layout), gradient in reversed(list(zip(outputs, gradients))):
        if gradient is None:
            continue
        output, gradient = (layout.volume(value, batch) for value in (output, gradient))
        if gradient.abs().amax() > 0:
            weight = gradient.mean(dim=(2, 3, 4), keepdim=True)
            heat = (weight * output).sum(dim=1).clamp_min(0).detach()  # (B, t, h, w)
            return _over_frames(heat, detector, image) if image.ndim == 5 else _spread(heat[:, 0], image.shape[-2:])
    return None


def _over_frames(heat: Tensor, detector: Any, clip: Tensor) -> NDArray[np.float64]:
    """Enlarge maps `(B, t, h, w)` to those of a clip's frames `(B, T, H, W)`, the largest value of a clip being 1."""
    batch, frames, _, height, width = clip.shape
    rows = getattr(getattr(detector, "config", None), "thumbnail_rows", None)
    heat = heat[:, None].float()
    if rows and heat.shape[2] == 1:
        columns = frames // rows
        whole = F.interpolate(heat[:, :, 0], size=(rows * height, columns * width), mode="bilinear")
        heat = whole.view(batch, rows, height, columns, width).transpose(2, 3).reshape(batch, frames, height, width)
    else:
        heat = F.interpolate(heat, size=(frames, height, width), mode="trilinear", align_corners=False)[:, 0]
    peak = heat.flatten(1).amax(dim=1).clamp_min(1e-12)
    return (heat.clamp_min(0) / peak[:, None, None, None]).double().cpu().numpy()


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
    if image.ndim == 5:
        heat = grad_cam(detector, image)
        return {} if heat is None else {"Grad-CAM": heat}
    maps = {"Grad-CAM": grad_cam(detector, image), "attention roll-out": attention_rollout(detector, image)}
    return {name: heat for name, heat in maps.items() if heat is not None} | own_maps(detector, image)
