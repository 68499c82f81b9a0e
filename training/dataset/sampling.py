"""Which frames, in which order, on which process. All of it follows from (seed, epoch, position)."""

from __future__ import annotations

import numpy as np

# Separates the random streams that a position feeds, so that none repeats another.
_ORDER, _SAMPLE, _DRAWS = 1, 2, 3


def place(step: np.ndarray, available: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the position of step 0 … steps-1 when they are spread evenly over `available` ones, both ends included.

    A single step stands in the middle. Integer arithmetic, so that every machine rounds alike.
    """
    gaps = np.maximum(steps - 1, 1)
    return np.where(steps == 1, (available - 1) // 2, (2 * step * (available - 1) + gaps) // (2 * gaps))


def spread(available: int, wanted: int) -> np.ndarray:
    """Return the positions of up to `wanted` frames spread evenly over a video of `available`; all if there are no more."""
    return spread_each(np.array([available]), wanted)[1]


def spread_each(available: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (owner, position) of up to `wanted` frames of each video, spread evenly over the `available` ones.

    Args:
        available: (V,) frames per video. wanted: at most so many of each; all where there are no more.

    Returns: two int32 arrays (N,): the number of the video, and the position in it.
    """
    return _place_each(available, np.minimum(available, wanted))


def spread_clips(available: np.ndarray, wanted: int, clip_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (owner, first position) of clips of `clip_size` successive frames, spread evenly over each video.

    As many clips as `wanted` frames make, at least one; none of a video that is shorter than a clip. Clips of one video do
    not overlap.
    """
    return _place_each(available - clip_size + 1, _clips_of(available, wanted, clip_size))


def random_clips(
    available: np.ndarray, wanted: int, clip_size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return as many clips as `spread_clips`, each with a random start in its own share of the video.

    The video is cut into as many equal shares as it gives clips, and a clip lies inside its share, so that none overlap.
    """
    counts = _clips_of(available, wanted, clip_size)
    owner, step = _steps(counts)
    frames = np.asarray(available, np.int64)[owner]
    low, high = frames * step // counts[owner], frames * (step + 1) // counts[owner] - clip_size
    return owner.astype(np.int32), rng.integers(low, high + 1).astype(np.int32)


def _clips_of(available: np.ndarray, wanted: int, clip_size: int) -> np.ndarray:
    return np.where(available < clip_size, 0, np.maximum(1, np.minimum(wanted, available) // clip_size))


def _place_each(available: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    owner, step = _steps(counts)
    positions = place(step, np.asarray(available, np.int64)[owner], counts[owner])
    return owner.astype(np.int32), positions.astype(np.int32)


def _steps(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of `counts[v]` choices of every video the number of the video, and which of its choices it is."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def order(draws: int, seed: int, epoch: int) -> np.ndarray:
    """Return the shuffled order of an epoch's draws."""
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(draws)


def sample_rng(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Return the generator of everything random about one draw (augmentation, partners, blends)."""
    return np.random.default_rng([seed, epoch, position, _SAMPLE])


def draws_rng(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator for choices over all of an epoch's draws at once."""
    return np.random.default_rng([seed, epoch, _DRAWS])


def share(size: int, rank: int, world_size: int) -> range:
    """Return the contiguous part of 0 … size-1 that belongs to a process; parts differ by one at most."""
    return range(size * rank // world_size, size * (rank + 1) // world_size)


class TrainingPlan:
    """Which positions of an epoch this process loads at each step.

    Global batches of `batch` draws are cut from the shuffled epoch and each process takes a contiguous share, so that the
    global batch is the same whatever their number. The last, partial batch is left out, unless it is the only one.
    """

    def __init__(self, draws: int, batch: int, rank: int = 0, world_size: int = 1):
        self.draws, self.batch, self.rank, self.world_size = draws, batch, rank, world_size

    def __len__(self) -> int:
        return max(self.draws // self.batch, min(1, self.draws))

    def __getitem__(self, step: int) -> range:
        if not 0 <= step < len(self):
            raise IndexError(step)
        low = step * self.batch
        mine = share(min(self.batch, self.draws - low), self.rank, self.world_size)
        return range(low + mine.start, low + mine.stop)


class EvaluationPlan:
    """All positions cut into batches, of which this process takes a contiguous share: nothing twice, nothing left out.

    Batches are shared whole, so that each is the same for any number of processes: matrix products of other sizes may round
    otherwise, and then predictions would depend on that number.
    """

    def __init__(self, draws: int, batch: int, rank: int = 0, world_size: int = 1):
        self.draws, self.batch = draws, batch
        self.mine = share(-(-draws // batch), rank, world_size)

    def __len__(self) -> int:
        return len(self.mine)

    def __getitem__(self, step: int) -> range:
        if not 0 <= step < len(self):
            raise IndexError(step)
        low = self.mine[step] * self.batch
        return range(low, min(low + self.batch, self.draws))
