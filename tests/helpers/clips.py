"""Clips of synthetic faces."""

import torch

from helpers.faces import face_batch


def clip_batch(count: int = 6, frames: int = 4, size: int = 32, seed: int = 0) -> dict:
    """Return a batch as after `prepare`: half real faces that drift in brightness, half whose middle also flickers.

    `image` float32 `(count, frames, 3, size, size)`, `label` int64.
    """
    batch = face_batch(count, size, seed)
    generator = torch.Generator().manual_seed(seed)
    drift = torch.linspace(-0.05, 0.05, frames).view(1, frames, 1, 1, 1)
    flicker = 0.8 * (torch.rand((count, frames, 3, 1, 1), generator=generator) - 0.5)
    image = batch["image"][:, None] + drift + flicker * batch["mask"][:, None]
    return {"image": image + 0.02 * torch.randn(image.shape, generator=generator), "label": batch["label"]}
