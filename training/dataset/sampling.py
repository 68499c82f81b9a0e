"""Which frames, in which order, on which process. All of it follows from (seed, epoch, position)."""

from __future__ import annotations

import numpy as np

# Separates the random streams that a position feeds, so that none repeats another.
_ORDER, _SAMPLE, _DRAWS = 1, 2, 3


def spread(available: int, wanted: int) -> np.ndarray:
    """Return the positions of `wanted` frames spread evenly over `available` ones, first and last included.

    All of them when there are no more than wanted.
    """
    if available <= wanted:
        return np.arange(available)
    return np.round(np.linspace(0, available - 1, wanted)).astype(np.int64)


def spread_clips(available: int, wanted_frames: int, clip_size: int) -> np.ndarray:
    """Return the first positions of clips of `clip_size` successive frames, evenly spread, about `wanted_frames` in all.

    Empty when the video is shorter than one clip. Clips do not overlap where there is room.
    """
    if available < clip_size:
        return np.empty(0, np.int64)
    clips = max(1, min(wanted_frames, available) // clip_size)
    return np.round(np.linspace(0, available - clip_size, clips)).astype(np.int64)


def order(draws: int, seed: int, epoch: int) -> np.ndarray:
    """Return the shuffled order of an epoch's draws."""
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(draws)


def sample_rng(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Return the generator of everything random about one draw (augmentation, partners, blends)."""
    return np.random.default_rng([seed, epoch, position, _SAMPLE])


def draws_rng(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator for choices over all of an epoch's draws at once."""
    return np.random.default_rng([seed, epoch, _DRAWS])


def training_batches(draws: int, batch: int, rank: int, world_size: int) -> list[np.ndarray]:
    """Return, per step, the positions that this process loads of each global batch of `batch` draws.

    The last, partial batch is left out, unless it is the only one. A global batch is the same whatever the number of
    processes; each takes a contiguous, equal share of it.
    """
    steps = max(1, draws // batch) if draws else 0
    parts = []
    for step in range(steps):
        whole = np.arange(step * batch, min((step + 1) * batch, draws))
        parts.append(np.array_split(whole, world_size)[rank])
    return parts


def evaluation_batches(draws: int, batch: int, rank: int, world_size: int) -> list[np.ndarray]:
    """Return this process's contiguous share of all positions, cut into batches: nothing twice, nothing dropped."""
    mine = np.array_split(np.arange(draws), world_size)[rank]
    return [mine[i : i + batch] for i in range(0, len(mine), batch)]
