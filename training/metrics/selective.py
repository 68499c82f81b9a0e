"""When to say nothing: limits between which no verdict is given, and what is gained by silence.

Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005, chapter 4 (conformal prediction, class by class);
Geifman & El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017 (risk and coverage).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import ConfigError
from training.metrics.decision import HALF, called_fake


@dataclass(frozen=True)
class Limits:
    """A score above `high` is called fake, one below `low` real; from `low` to `high` nothing is said.

    Attributes:
        alpha: of the reals at most this share is called fake, and of the fakes at most this share real, in the mean over
            validation and test sets of one kind (where both are drawn alike; a new domain is not).
    """

    low: float
    high: float
    alpha: float

    def verdict(self, prob: float) -> str | None:
        """Return `fake`, `real`, or None where nothing can be said."""
        return "fake" if prob > self.high else "real" if prob < self.low else None


def conformal_limits(label: ArrayLike, prob: ArrayLike, alpha: float, video: ArrayLike | None = None) -> Limits:
    """Return the limits that held-out scores allow, one independent score each (of a video), or those of frames with `video`.

    `high` is the ⌈(n + 1)(1 − α)⌉-th smallest score of n reals, `low` the same of the fakes from above. With fewer than
    1/α − 1 of a class its limit is infinite, and that mistake is never made. Where the classes lie so far apart that both
    sides would be excluded in between, both limits are the middle, which keeps either promise.

    Args:
        label: `(N,)`, 0 real, 1 fake. prob: `(N,)`, fake probability. alpha: in (0, 1).
        video: N names. Frames of a video are no independent scores: all of one's frames weigh together as much as one score,
            and the promise is of a frame of another video (Dunn, Wasserman & Ramdas, JASA 2022, pooling of distributions).

    Raises:
        ConfigError: alpha is not in (0, 1).
    """
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha must lie between 0 and 1 (0.05, say), not {alpha:g}")
    fake, scores = np.asarray(label) == 1, np.asarray(prob, np.float64)
    names = np.arange(len(scores)) if video is None else np.asarray(video)
    high = _bound(scores[~fake], names[~fake], alpha)
    low = -_bound(-scores[fake], names[fake], alpha)
    if low > high:
        low = high = (low + high) / 2
    return Limits(low, high, alpha)


def _bound(scores: NDArray[np.float64], names: NDArray, alpha: float) -> float:
    """Return the smallest score up to which at least (n + 1)(1 - α) of n videos lie, in parts; infinite if there is none."""
    if not len(scores):
        return math.inf
    _, code, frames = np.unique(names, return_inverse=True, return_counts=True)
    order = np.argsort(scores)
    below = np.cumsum(1 / frames[code[order]])
    # The slack keeps 19 scores at α = 0.05 from asking for a twentieth by a rounding error.
    enough = np.flatnonzero(below >= (len(frames) + 1) * (1 - alpha) - 1e-9)
    return float(scores[order[enough[0]]]) if len(enough) else math.inf


@dataclass(frozen=True)
class Silence:
    """What limits do on a set.

    Attributes:
        coverage: share that gets a verdict. error: share of wrong verdicts among those, None without any.
        real_called_fake, fake_called_real: share of all reals, of all fakes; None without any.
    """

    coverage: float
    error: float | None
    real_called_fake: float | None
    fake_called_real: float | None


def measure_silence(label: ArrayLike, prob: ArrayLike, limits: Limits) -> Silence:
    """Return what `limits` do on scores `(N,)` with labels `(N,)`."""
    fake, scores = np.asarray(label) == 1, np.asarray(prob, np.float64)
    called, cleared = scores > limits.high, scores < limits.low
    said = called | cleared
    wrong = (called & ~fake) | (cleared & fake)
    return Silence(
        float(said.mean()),
        float(wrong[said].mean()) if said.any() else None,
        float(called[~fake].mean()) if not fake.all() else None,
        float(cleared[fake].mean()) if fake.any() else None,
    )


def risk_coverage(
    label: ArrayLike, prob: ArrayLike, threshold: float = HALF
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return coverage `(N,)`, the error among those most certain scores `(N,)`, and the mean of that, the area under the curve.

    A score is the more certain the further it lies from the threshold; of equal ones, whose order is arbitrary, each counts
    as their mean. Smaller is better; a detector that is wrong as often on certain as on uncertain scores has its error rate.
    """
    fake, scores = np.asarray(label) == 1, np.asarray(prob, np.float64)
    wrong = called_fake(scores, threshold) != fake
    _, tie, size = np.unique(-np.abs(scores - threshold), return_inverse=True, return_counts=True)
    mean = np.bincount(tie, weights=wrong) / size
    errors = np.cumsum(np.repeat(mean, size))
    number = np.arange(1, len(scores) + 1)
    risk = errors / number
    return number / len(scores), risk, float(risk.mean())
