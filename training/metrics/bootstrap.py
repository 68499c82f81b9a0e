"""Resampling videos or people: draws, and counts per score for all draws at once.

The frames of one video resemble each other, so videos, not frames, are drawn (the cluster bootstrap: Davison & Hinkley
1997, section 3.8); where it is known who is shown, people are drawn with all their videos, since those resemble each other too.
Those who are seen in real videos, in fakes, and in both are drawn separately, as many as there are of each: test sets fix these
numbers, and no draw can lose a class.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.metrics.decision import HALF, called_fake
from training.metrics.samples import Samples

BLOCK = 64  # resamples handled together: small enough for the cache, large enough for NumPy
MAX_ROWS = 4096  # distinct scores kept apart in resamples


def draw_weights(
    video_label: NDArray[np.bool_], resamples: int, rng: np.random.Generator, person: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks `(V, ≤ BLOCK)`: how often each video stands in each resample.

    Args:
        video_label: `(V,)`, True for fake. resamples: how many columns in all.
        person: `(V,)`, number of the person who is shown, from 0; None: every video is drawn by itself.
    """
    who = np.arange(len(video_label)) if person is None else person
    fakes, videos = np.bincount(who, weights=video_label), np.bincount(who)
    groups = [np.flatnonzero(chosen) for chosen in (fakes == 0, fakes == videos, (fakes > 0) & (fakes < videos))]
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        weights = np.zeros((len(videos), size), np.float32)
        for members in groups:
            if not len(members):
                continue
            drawn = rng.integers(0, len(members), (size, len(members)))
            drawn += np.arange(size)[:, None] * len(members)
            counts = np.bincount(drawn.ravel(), minlength=size * len(members))
            weights[members] = counts.reshape(size, len(members)).T
        yield weights if person is None else weights[who]


def score_rows(samples: Samples, max_rows: int) -> tuple[NDArray[np.int64], int, bool]:
    """Sort samples into rows of equal score, highest first.

    Returns:
        `(N,)` row of each sample, number of rows, and whether rows are exact. With more than `max_rows` distinct scores,
        neighbours are merged into at most about `max_rows` rows, each with about the same share of the two classes together.
    """
    scores, row = np.unique(-samples.prob, return_inverse=True)
    if len(scores) <= max_rows:
        return row, len(scores), True
    # Half the mass to each class, or a rare class would fall into few rows: then sum over rows of
    # P(real) P(fake) / 2, the most by which merging can move the AUC, is below 1 / (2 max_rows).
    fakes = int(samples.label.sum())
    share = np.where(samples.label, 0.5 / fakes, 0.5 / (len(samples.label) - fakes))
    mass = np.cumsum(np.bincount(row, weights=share))
    merged = np.minimum((mass * max_rows).astype(np.int64), max_rows - 1)
    _, merged = np.unique(merged, return_inverse=True)
    return merged[row], int(merged[-1]) + 1, False


def with_coins(
    real: NDArray[np.float64], fake: NDArray[np.float64], coins: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return counts per score `(K, R)` with a row above and one below all scores, in which a coin's samples (real, fake) lie.

    A coin says "certainly fake" or "certainly real", each half of the time: half of its samples rank above all others and
    half below, which is what it does in expectation, without the noise of throwing it. Without coins nothing changes.
    """
    if not any(coins):
        return real, fake
    ends = [np.full((1, real.shape[1]), coin / 2) for coin in coins]
    padded = [np.concatenate([end, counts, end]) for end, counts in zip(ends, (real, fake), strict=True)]
    return padded[0], padded[1]


class ScoreCounts:
    """Counts of real and fake samples per score under any weighting of the videos, and of `coins`, as in `with_coins`."""

    def __init__(self, samples: Samples, max_rows: int = MAX_ROWS, coins: tuple[float, float] = (0.0, 0.0)):
        self.coins = coins
        from scipy.sparse import csr_matrix

        row, rows, self.exact = score_rows(samples, max_rows)
        shape = (rows, samples.videos)

        def matrix(chosen: NDArray[np.bool_]) -> "csr_matrix":
            ones = np.ones(int(chosen.sum()), np.float32)
            return csr_matrix((ones, (row[chosen], samples.video[chosen])), shape=shape)

        self.real, self.fake = matrix(~samples.label), matrix(samples.label)

    def __call__(self, weights: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return real and fake counts `(K, R)`, highest score first, for video weights `(V, R)`; with coins `(K + 2, R)`."""
        real, fake = (self.real @ weights).astype(np.float64), (self.fake @ weights).astype(np.float64)
        return with_coins(real, fake, self.coins)


class CorrectCounts:
    """Accuracy at a fixed threshold under any weighting of the videos.

    `coins`: samples (real, fake) of videos without a score; a coin calls half of them right.
    """

    def __init__(self, samples: Samples, threshold: float = HALF, coins: tuple[float, float] = (0.0, 0.0)):
        self.coins = np.array(coins)[:, None]
        correct = called_fake(samples.prob, threshold) == samples.label
        frames = np.bincount(samples.video, minlength=samples.videos).astype(np.float64)
        right = np.bincount(samples.video, weights=correct, minlength=samples.videos)
        fake = samples.video_label
        self.frames = np.stack([frames * ~fake, frames * fake])  # (2, V)
        self.right = np.stack([right * ~fake, right * fake])

    def __call__(self, weights: NDArray) -> dict[str, NDArray[np.float64]]:
        """Return `acc`, and of the classes that there are `acc_real` and `acc_fake`, each `(R,)`, for video weights `(V, R)`."""
        weights = weights.astype(np.float64)
        right, frames = self.right @ weights + self.coins / 2, self.frames @ weights + self.coins
        found = {"acc": right.sum(0) / frames.sum(0)}
        for number, name in enumerate(("acc_real", "acc_fake")):
            if self.frames[number].any():
                found[name] = right[number] / frames[number]
        return found
