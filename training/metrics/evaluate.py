"""All figures of one test set with their confidence intervals: the content of metrics.json."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import ConfigError
from training.metrics.bootstrap import MAX_ROWS, CorrectCounts, ScoreCounts, draw_weights, with_coins
from training.metrics.one_class import about
from training.metrics.ranking import ranking_figures, ranking_keys
from training.metrics.samples import Samples, gather

Figure = dict[str, float | None]
Coins = tuple[float, float]
CONFIDENCE = 0.95


def evaluate(
    label: ArrayLike,
    prob: ArrayLike,
    video: Iterable,
    *,
    tpr: Sequence[float] = (0.95,),
    bootstrap: int = 1000,
    seed: int = 0,
    dataset: str | None = None,
    max_rows: int = MAX_ROWS,
    one_class: bool = False,
    person: Iterable | None = None,
    coins: tuple[int, int] = (0, 0),
) -> dict:
    """Return the figures of one test set, of its frames and of its videos (a video's score is its frames' mean).

    AUC, EER, AP (scikit-learn's definitions; EER interpolated on the ROC curve), accuracy at 0.5 (fake when prob > 0.5,
    the argmax of two logits) over all and per class, and TNR at each TPR. The 95 % intervals are percentile intervals over
    resampled videos, or over resampled people with all their videos where `person` tells who is shown; see
    `training.metrics.bootstrap`. They speak of the choice of videos or people, not of the training's randomness; with fewer
    than some twenty in a class they are too narrow, and a perfect figure's interval has no width. With a single one in a
    class there is nothing to resample, and the interval is the whole range 0 to 1.

    Point values are exact. In resamples, more than `max_rows` distinct scores are merged into `max_rows` rows of equal share;
    the tiny shift that this makes in the point value is taken off every resample.

    Args:
        label: `(N,)`, 0 real, 1 fake.
        prob: `(N,)`, fake probability in [0, 1].
        video: N names; frames of one video share one.
        tpr: targets of TNR at TPR, in (0, 1).
        bootstrap: number of resamples; 0 leaves the intervals out (`low` and `high` are None).
        seed: of the resamples.
        dataset: name for error messages.
        one_class: take a set of fakes only, or of reals only, too: what needs both classes is then absent (None), and
            `one_class` in the result says what there is (`training.metrics.one_class.about`).
        person: N names of the people who are shown, None or empty where unknown: then a video counts for itself.
        coins: how many videos (real, fake) have no score and count with a coin's (`--missing chance`). A coin says "certainly
            fake" or "certainly real", each half of the time; the figures are those that it gives in expectation. So a pair of
            videos of which one or both have no score counts one half in the AUC, and half of those videos count as right in
            the accuracies. Of frames, a missing video has as many as the scored ones of its class on average. In resamples
            the coins stay as many as they are. Of a class without any score nothing is counted.

    Returns:
        `{"frame": {"auc": {"value", "low", "high"}, "eer", "ap", "acc", "acc_real", "acc_fake", "tnr_at_tpr95"}, "video":
        the same, "counts": {"frames_real", "frames_fake", "videos_real", "videos_fake"}}`, floats and ints, ready for JSON;
        with one class only also `one_class`, with people also `people` in the counts, those who are known.

    Raises:
        DataError: see `training.metrics.samples.gather`. ConfigError: a TPR outside (0, 1), or a negative `bootstrap`.
    """
    targets = tuple(tpr)
    if not all(0 < target < 1 for target in targets):
        raise ConfigError(f"tnr_at_tpr must lie between 0 and 1 (0.95, say), not {list(targets)}")
    if bootstrap < 0:
        raise ConfigError(f"bootstrap must be 0 or a number of resamples, not {bootstrap}")
    frames = gather(label, prob, video, dataset, one_class, person)
    videos = frames.by_video()
    levels = {"frame": frames, "video": videos}
    thrown = {name: _coins(samples, coins) for name, samples in levels.items()}
    points = {name: point_figures(samples, targets, thrown[name]) for name, samples in levels.items()}
    if bootstrap:
        draws = _resample(levels, points, targets, bootstrap, np.random.default_rng(seed), max_rows, thrown)
        result: dict = {name: _with_intervals(points[name], draws[name], frames) for name in levels}
    else:
        result = {
            name: {key: {"value": value, "low": None, "high": None} for key, value in points[name].items()}
            for name in levels
        }
    if frames.missing:
        absent: Figure = {"value": None, "low": None, "high": None}
        for name in levels:
            result[name] = {key: result[name].get(key, absent) for key in _keys(targets)}
        result["one_class"] = about(levels)
    result["counts"] = {
        "frames_real": int((~frames.label).sum()),
        "frames_fake": int(frames.label.sum()),
        "videos_real": int((~videos.label).sum()),
        "videos_fake": int(videos.label.sum()),
    }
    if frames.person is not None:
        result["counts"]["people"] = frames.people
    return result


def _keys(targets: tuple[float, ...]) -> list[str]:
    return [*ranking_keys(targets), "acc", "acc_real", "acc_fake"]


def _coins(samples: Samples, videos: tuple[int, int]) -> Coins:
    """Return how many samples that many videos (real, fake) without a score are worth."""
    there = [samples.video_label == label for label in (False, True)]
    found = [
        count * float((samples.label == label).sum()) / members.sum() if members.any() else 0.0
        for label, members, count in zip((False, True), there, videos, strict=True)
    ]
    return found[0], found[1]


def point_figures(samples: Samples, targets: tuple[float, ...], coins: Coins = (0.0, 0.0)) -> dict[str, float]:
    """Return the exact value of every figure that these samples, and so many of a coin's, allow."""
    correct = CorrectCounts(samples, coins=coins)(np.ones((samples.videos, 1)))
    if samples.missing:
        return {name: float(value[0]) for name, value in correct.items()}
    _, row = np.unique(-samples.prob, return_inverse=True)
    rows = int(row.max()) + 1
    real = np.bincount(row[~samples.label], minlength=rows)[:, None].astype(np.float64)
    fake = np.bincount(row[samples.label], minlength=rows)[:, None].astype(np.float64)
    figures = ranking_figures(*with_coins(real, fake, coins), targets) | correct
    return {name: float(value[0]) for name, value in figures.items()}


def _resample(
    levels: dict[str, Samples],
    points: dict[str, dict[str, float]],
    targets: tuple[float, ...],
    resamples: int,
    rng: np.random.Generator,
    max_rows: int,
    coins: dict[str, Coins],
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return, per level and figure, the `(resamples,)` values; both levels see the same draws."""
    some = next(iter(levels.values()))
    if some.missing:
        return _resample_correct(levels, resamples, rng, coins)
    counts = {
        name: (ScoreCounts(samples, max_rows, coins[name]), CorrectCounts(samples, coins=coins[name]))
        for name, samples in levels.items()
    }
    blocks: dict[str, list[dict[str, NDArray]]] = {name: [] for name in levels}
    for weights in draw_weights(some.video_label, resamples, rng, some.person):
        for name, (ranked, correct) in counts.items():
            blocks[name].append(ranking_figures(*ranked(weights), targets) | correct(weights))
    draws = {
        name: {key: np.concatenate([block[key] for block in found]) for key in found[0]}
        for name, found in blocks.items()
    }
    for name, (ranked, _) in counts.items():
        if not ranked.exact:
            everything = np.ones((levels[name].videos, 1), np.float32)
            for key, merged in ranking_figures(*ranked(everything), targets).items():
                draws[name][key] = np.clip(draws[name][key] + points[name][key] - merged[0], 0, 1)
    return draws


def _resample_correct(
    levels: dict[str, Samples], resamples: int, rng: np.random.Generator, coins: dict[str, Coins]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return the same of a set of one class, which has no ranking."""
    some = next(iter(levels.values()))
    weights = np.concatenate(list(draw_weights(some.video_label, resamples, rng, some.person)), axis=1)
    return {name: CorrectCounts(samples, coins=coins[name])(weights) for name, samples in levels.items()}


def _with_intervals(
    points: dict[str, float], draws: dict[str, NDArray[np.float64]], samples: Samples
) -> dict[str, Figure]:
    known = {name: samples.independent(fake) > 1 for name, fake in (("real", False), ("fake", True))}
    classes = [name for name in known if name != samples.missing]
    figures: dict[str, Figure] = {}
    for key, value in points.items():
        needed = [key.removeprefix("acc_")] if key.startswith("acc_") else classes
        low, high = percentile_interval(draws[key]) if all(known[name] for name in needed) else (0.0, 1.0)
        figures[key] = {"value": value, "low": low, "high": high}
    return figures


def percentile_interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of resampled values `(R,)`."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)
