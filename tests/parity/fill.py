"""Weights and inputs that the reference implementations' answers were computed with, all from names and seeds.

A golden (`goldens/<detector>.json.gz`) lists the reference's state dict and what it answers; `losses/<detector>.json.gz` its
training losses on one batch. No weight file is needed: every tensor follows from its key.
"""

import gzip
import json
import math
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).parent


def _load(kind: str, name: str) -> dict[str, Any]:
    with gzip.open(HERE / kind / f"{name}.json.gz", "rt") as file:
        return json.load(file)


def load_golden(name: str) -> dict[str, Any]:
    """Return what the reference `name` answers: `keys`, `not_filled`, `params`, `input_shape`, `outputs`."""
    return _load("goldens", name)


def load_losses(name: str) -> dict[str, Any]:
    """Return the reference's losses on one batch: `batch`, `losses`, `without_grad`, `grad_norm_total`."""
    return _load("losses", name)


def fill_tensor(key: str, shape: list[int], salt: str = "") -> Tensor:
    """Return the float32 tensor that belongs to a state-dict key.

    Running variances are uniform in [0.5, 1.5), running means normal with deviation 0.1, tensors of two or more dimensions
    normal with deviation 1/sqrt(fan-in), one-dimensional `*weight` 1 + 0.1 · normal, other one-dimensional 0.1 · normal.
    """
    generator = torch.Generator().manual_seed(zlib.crc32((key + salt).encode()))
    if key.endswith("running_var"):
        return torch.rand(shape, generator=generator) + 0.5
    if key.endswith("running_mean"):
        return torch.randn(shape, generator=generator) * 0.1
    if len(shape) >= 2:
        return torch.randn(shape, generator=generator) * (1.0 / max(1, math.prod(shape[1:]))) ** 0.5
    if key.endswith("weight"):
        return 1 + 0.1 * torch.randn(shape, generator=generator)
    return 0.1 * torch.randn(shape, generator=generator)


def fill_state_dict(keys: list[list], skip: list[str] = (), salt: str = "") -> dict[str, Tensor]:
    """Return a state dict of `[name, shape, dtype]` rows; integer tensors, scalars and the names in `skip` are left out."""
    skipped = set(skip)
    return {
        name: fill_tensor(name, shape, salt)
        for name, shape, dtype in keys
        if name not in skipped and dtype.startswith("float") and shape
    }


def make_input(shape: list[int], seed: int = 7) -> Tensor:
    """Return the input images, uniform in [-1, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def make_batch(batch: dict[str, Any], resolution: int) -> dict[str, Tensor]:
    """Return the training batch of a losses record: image, mask and idct drawn one after another, and the labels."""
    generator = torch.Generator().manual_seed(batch["seed"])
    size = len(batch["label"])
    image = torch.rand(batch["image"], generator=generator) * 2 - 1
    mask = (torch.rand((size, 1, resolution, resolution), generator=generator) > 0.7).float()
    idct = torch.rand((size, 1, resolution, resolution), generator=generator) * 2 - 1
    return {
        "image": image,
        "mask": mask,
        "idct": idct,
        "label": torch.tensor(batch["label"]),
        "label_spe": torch.tensor(batch["label_spe"]),
        "id_index": torch.arange(size),
    }
