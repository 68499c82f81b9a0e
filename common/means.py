"""The mean of scores: the same in any order, and of equal scores that score."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray


def group_means(group: NDArray[np.int64], prob: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """Return the mean `(groups,)` of the scores of each group (a video's frames), whatever order they stand in.

    Sums are exact before they are rounded once: with a running sum, the same scores in another order could differ in the last
    bit, and break a tie between two videos.

    Args:
        group: `(N,)` number of each score's group, in [0, groups); every group has one at least.
    """
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=groups)
    ends = np.cumsum(sizes)
    ordered = prob[order]
    scores, bounds = ordered.tolist(), [0, *ends.tolist()]
    sums = np.array([math.fsum(scores[start:end]) for start, end in pairwise(bounds)], np.float64)
    # The mean of equal numbers must be that number.
    low, high = np.minimum.reduceat(ordered, ends - sizes), np.maximum.reduceat(ordered, ends - sizes)
    return np.clip(sums / sizes, low, high)


def mean_score(scores: ArrayLike) -> float:
    """Return the mean of some scores, as `group_means` does of each group's."""
    prob = np.asarray(scores, np.float64)
    return float(group_means(np.zeros(len(prob), np.int64), prob, 1)[0])
