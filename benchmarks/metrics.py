"""Figures with bootstrap intervals: ours against a loop over scikit-learn's weighted metrics."""

from functools import partial

import numpy as np

from benchmarks import median_seconds, row
from training.metrics import delong, evaluate
from training.metrics.bootstrap import draw_weights
from training.metrics.samples import gather


def _predictions(videos: int, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = (rng.random(videos) < 0.7).astype(np.int64)
    logit = (rng.normal(size=videos) + 1.2 * label).repeat(frames) + rng.normal(size=videos * frames)
    return label.repeat(frames), 1 / (1 + np.exp(-logit)), np.arange(videos).repeat(frames)


def _reference_point(label: np.ndarray, prob: np.ndarray, weight: np.ndarray | None = None) -> dict[str, float]:
    from sklearn import metrics

    fpr, tpr, _ = metrics.roc_curve(label, prob, sample_weight=weight, drop_intermediate=False)
    return {
        "auc": metrics.auc(fpr, tpr),
        "ap": metrics.average_precision_score(label, prob, sample_weight=weight),
        "acc": metrics.accuracy_score(label, prob > 0.5, sample_weight=weight),
        "tnr_at_tpr95": 1 - fpr[np.argmax(tpr >= 0.95)],
    }


def _reference(label: np.ndarray, prob: np.ndarray, video: np.ndarray, resamples: int) -> dict:
    """Both levels, each resample by weights, the same draws as ours."""
    samples = gather(label, prob, video)
    levels = {"frame": samples, "video": samples.by_video()}
    result: dict = {
        name: {key: {"value": value} for key, value in _reference_point(s.label, s.prob).items()}
        for name, s in levels.items()
    }
    draws: dict = {name: [] for name in levels}
    for block in draw_weights(samples.video_label, resamples, np.random.default_rng(0)):
        for weight in block.T:
            for name, level in levels.items():
                draws[name].append(_reference_point(level.label, level.prob, weight[level.video]))
    for name, found in draws.items():
        for key in found[0] if found else ():
            low, high = np.percentile([draw[key] for draw in found], [2.5, 97.5])
            result[name][key] |= {"low": low, "high": high}
    return result


def _largest_difference(ours: dict, reference: dict) -> float:
    return max(
        abs(ours[level][key][end] - value)
        for level, figures in reference.items()
        for key, ends in figures.items()
        for end, value in ends.items()
    )


def run(quick: bool = False) -> list[dict]:
    """Time one evaluation with and without intervals, and DeLong's test; agreement is the largest difference of a figure."""
    rows = []
    for videos, frames, resamples in [(300, 10, 20)] if quick else [(3125, 32, 0), (3125, 32, 100), (31250, 32, 10)]:
        data = _predictions(videos, frames)
        ours = evaluate(*data, bootstrap=resamples)
        reference = _reference(*data, resamples)
        rows.append(
            row(
                f"evaluate, {videos * frames} frames, {resamples} resamples",
                "s",
                median_seconds(partial(evaluate, *data, bootstrap=resamples), 3),
                median_seconds(partial(_reference, *data, resamples), 1 if resamples > 50 else 3, 0),
                f"max |Δ| {_largest_difference(ours, reference):.1e}",
            )
        )
    label, prob, video = _predictions(100 if quick else 31250, 32)
    if not quick:
        rows.append(
            row(
                "evaluate, 1000000 frames, 1000 resamples",
                "s",
                median_seconds(lambda: evaluate(label, prob, video), 3, 0),
                None,
                None,
            )
        )
    rows.append(
        row(
            f"DeLong's test, {len(label)} frames",
            "s",
            median_seconds(lambda: delong(label, prob, prob[::-1]), 3),
            None,
            None,
        )
    )
    return rows
