"""Where a face looks forged to the network, and the erasing of just those places (Wang & Deng, CVPR 2021, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def forgery_attention_map(logits: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Return the Forgery Attention Map `(B, 1, H, W)`: max over colours of |∂ (o_fake − o_real) / ∂ image| (equation 1).

    Args:
        logits: gives `(B, 2)` of images `(B, 3, H, W)`; no gradient is left in its parameters.
    """
    with torch.enable_grad():
        image = image.detach().requires_grad_(True)
        answer = logits(image).float()
        (gradient,) = torch.autograd.grad((answer[:, 1] - answer[:, 0]).sum(), image)
    return gradient.abs().amax(dim=1, keepdim=True)


class Erasing:
    """Suspicious Forgery Erasing: blocks around the most suspicious pixels, those that earlier blocks cover left out.

    What is random about a sample comes from a seed of its own, so that a sample's blocks do not depend on the batch, or on
    the number of processes, in which it comes.

    Args:
        blocks: N, how many blocks an image loses. largest: of a block's sides, pixels.
    """

    def __init__(self, blocks: int, largest: int):
        self.blocks, self.largest = blocks, largest

    def __call__(self, attention: Tensor, seeds: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return which pixels to erase `(B, 1, H, W)` bool, and what stands there instead `(B, 3, H, W)`, uniform in 0 … 255.

        Args:
            attention: `(B, 1, H, W)`. seeds: whole numbers from 0, a row per image.
        """
        size, _, height, width = attention.shape
        generators = [np.random.default_rng(list(seed)) for seed in seeds]
        sides = np.stack([rng.integers(1, self.largest + 1, (self.blocks, 2)) for rng in generators])  # (B, N, 2)
        # Of a block's rows (and columns) so many lie before the pixel that it is about, that pixel's own among the rest.
        before = np.stack([rng.integers(0, side) for rng, side in zip(generators, sides, strict=True)])
        noise = np.stack([rng.integers(0, 256, (3, height, width), dtype=np.uint8) for rng in generators])
        device = attention.device
        first, extent = (torch.from_numpy(value).to(device) for value in (before, sides))
        rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
        erased = torch.zeros(size, height, width, dtype=torch.bool, device=device)
        heat = attention[:, 0].detach().float()
        for block in range(self.blocks):
            place = heat.masked_fill(erased, -torch.inf).flatten(1).argmax(dim=1)  # (B,)
            top, left = place // width - first[:, block, 0], place % width - first[:, block, 1]
            own_rows = (rows >= top[:, None]) & (rows < (top + extent[:, block, 0])[:, None])  # (B, H)
            own_columns = (columns >= left[:, None]) & (columns < (left + extent[:, block, 1])[:, None])
            erased |= own_rows[:, :, None] & own_columns[:, None, :]
        return erased[:, None], torch.from_numpy(noise).to(device).float()
