"""Is one detector better than another on the same samples? DeLong's test and the paired bootstrap over videos."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import ConfigError
from training.metrics.bootstrap import CorrectCounts, ScoreCounts, draw_weights
from training.metrics.evaluate import point_figures
from training.metrics.ranking import ranking_figures, tpr_key
from training.metrics.samples import Samples, gather


@dataclass(frozen=True)
class Comparison:
    """Two detectors a and b on the same samples.

    Attributes:
        a, b: the figure of each. difference: a - b.
        low, high: 95 % interval of the difference.
        p: two-sided p-value of "no difference".
        method: how it was found.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    method: str

    def to_dict(self) -> dict:
        """Return the fields, ready for JSON."""
        return asdict(self)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p-values corrected for their number (Holm 1979): with each below α, the chance of any false one is at most α.

    Args:
        p: `(M,)`, p-values of one family of tests, of whatever dependence; NaN counts as no test and stays NaN.
    """
    raw = np.asarray(p, np.float64)
    adjusted = np.full(raw.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(raw))
    order = tested[np.argsort(raw[tested], kind="stable")]
    steps = raw[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def placements(label: NDArray[np.bool_], prob: NDArray[np.float64]) -> tuple[float, NDArray, NDArray]:
    """Return the AUC, and how each sample is placed among the other class.

    With midranks (Sun & Xu 2014, "Fast implementation of DeLong's algorithm", equations 5 to 8), in O(N log N): the rank of a
    fake among all samples less its rank among fakes counts the reals below it, ties one half.

    Returns:
        AUC; `(n_fake,)` share of reals below each fake; `(n_real,)` share of fakes above each real.
    """
    from scipy.stats import rankdata

    ranks = rankdata(prob)
    n_real, n_fake = int((~label).sum()), int(label.sum())
    of_fake = (ranks[label] - rankdata(prob[label])) / n_real
    of_real = 1 - (ranks[~label] - rankdata(prob[~label])) / n_fake
    return float(of_fake.mean()), of_fake, of_real


def _mean_covariance(values: NDArray, group: NDArray | None) -> NDArray:
    """Covariance `(2, 2)` of the means of `values` `(2, n)`; samples of one group may depend on each other."""
    centred = values - values.mean(axis=1, keepdims=True)
    n = values.shape[1]
    if group is not None:
        _, code = np.unique(group, return_inverse=True)
        centred = np.stack([np.bincount(code, weights=row) for row in centred])
    groups = centred.shape[1]
    if groups < 2:
        return np.full((2, 2), np.nan)
    return centred @ centred.T / n**2 * groups / (groups - 1)


def delong(label: ArrayLike, prob_a: ArrayLike, prob_b: ArrayLike, video: Iterable | None = None) -> Comparison:
    """Test whether two detectors have the same AUC on the same samples (DeLong, DeLong & Clarke-Pearson 1988).

    Args:
        label: `(N,)`, 0 real, 1 fake.
        prob_a, prob_b: `(N,)`, fake probability by each detector.
        video: N names. When given, samples of one video may depend on each other (Obuchowski 1997, "Nonparametric analysis of
            clustered ROC curve data"): what frame-level figures need, or p-values come out far too small. When left out,
            samples count as independent: right for one score a video.

    Returns:
        Comparison of AUCs. With one video in a class the variance is unknown: p is 1, the interval -1 to 1. Identical
        scores give p 1.

    Raises:
        DataError: as `training.metrics.samples.gather`.
    """
    names = range(len(np.asarray(label))) if video is None else list(video)
    first, second = gather(label, prob_a, names), gather(label, prob_b, names)
    auc_a, fake_a, real_a = placements(first.label, first.prob)
    auc_b, fake_b, real_b = placements(second.label, second.prob)
    group_fake = None if video is None else first.video[first.label]
    group_real = None if video is None else first.video[~first.label]
    covariance = _mean_covariance(np.stack([fake_a, fake_b]), group_fake) + _mean_covariance(
        np.stack([real_a, real_b]), group_real
    )
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    method = "DeLong" if video is None else "DeLong, clustered by video"
    difference = auc_a - auc_b
    if math.isnan(variance):
        return Comparison(auc_a, auc_b, difference, -1.0, 1.0, 1.0, method)
    error = math.sqrt(max(variance, 0.0))
    if error < 1e-12:
        p = 1.0 if abs(difference) < 1e-12 else 0.0
    else:
        p = math.erfc(abs(difference) / error / math.sqrt(2))
    return Comparison(auc_a, auc_b, difference, difference - 1.959964 * error, difference + 1.959964 * error, p, method)


def paired_bootstrap(
    label: ArrayLike,
    prob_a: ArrayLike,
    prob_b: ArrayLike,
    video: Iterable,
    *,
    metric: str = "auc",
    level: str = "frame",
    tpr: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    person: Iterable | None = None,
) -> Comparison:
    """Compare any figure of two detectors by resampling videos, or people where they are known, the same draw for both.

    The p-value is twice the smaller share of resamples on either side of zero (ties shared), at least 1 / `resamples`.

    Args:
        metric: `auc`, `eer`, `ap`, `acc`, `acc_real`, `acc_fake` or the key of TNR at `tpr`.
        level: `frame` or `video`. person: N names of the people who are shown, None or empty where unknown.

    Raises:
        DataError: as `training.metrics.samples.gather`. ConfigError: unknown metric or level.
    """
    names = list(video)
    who = None if person is None else list(person)
    pair = [gather(label, prob, names, person=who) for prob in (prob_a, prob_b)]
    if level not in ("frame", "video"):
        raise ConfigError(f"level must be frame or video, not {level}")
    if level == "video":
        pair = [samples.by_video() for samples in pair]
    if metric not in (known := {"auc", "eer", "ap", "acc", "acc_real", "acc_fake", tpr_key(tpr)}):
        raise ConfigError(f"unknown metric {metric}; choose from {', '.join(sorted(known))}")
    measures = [_measure(samples, metric, tpr) for samples in pair]
    a, b = (point_figures(samples, (tpr,))[metric] for samples in pair)
    rng = np.random.default_rng(seed)
    difference = np.concatenate(
        [
            measures[0](weights) - measures[1](weights)
            for weights in draw_weights(pair[0].video_label, resamples, rng, pair[0].person)
        ]
    )
    low, high = np.percentile(difference, [2.5, 97.5])
    ties = (difference == 0).mean() / 2
    p = 2 * min((difference > 0).mean() + ties, (difference < 0).mean() + ties)
    method = f"paired bootstrap over {'videos' if who is None else 'people'}"
    return Comparison(a, b, a - b, float(low), float(high), float(min(1.0, max(p, 1 / resamples))), method)


def _measure(samples: Samples, metric: str, tpr: float) -> Callable[[NDArray], NDArray]:
    """Return a function from video weights `(V, R)` to the metric `(R,)`."""
    if metric.startswith("acc"):
        correct = CorrectCounts(samples)
        return lambda weights: correct(weights)[metric]
    ranked = ScoreCounts(samples)
    return lambda weights: ranking_figures(*ranked(weights), (tpr,))[metric]
