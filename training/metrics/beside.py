"""What stands beside a test set's ranking figures: risk over coverage, and the mean and the worst of its manipulations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.metrics.bootstrap import draw_weights
from training.metrics.decision import HALF
from training.metrics.evaluate import Figure, percentile_interval
from training.metrics.groups import GroupReport, by_group
from training.metrics.samples import gather
from training.metrics.selective import risk_coverage


def risk_area(
    label: ArrayLike,
    prob: ArrayLike,
    video: Iterable,
    *,
    person: Iterable | None = None,
    threshold: float = HALF,
    resamples: int = 1000,
    seed: int = 0,
) -> Figure:
    """Return the area under the risk–coverage curve of videos, and its interval over videos, or over people where known.

    Args:
        label: `(N,)`, 0 real, 1 fake. prob: `(N,)`. video, person: N names, as `training.metrics.evaluate` takes them.
        threshold: above it a score is called fake, and the further from it the more certain. resamples, seed: of the bootstrap.

    Raises:
        DataError: see `training.metrics.samples.gather`.
    """
    samples = gather(label, prob, video, one_class=True, person=person).by_video()
    value = risk_coverage(samples.label, samples.prob, threshold)[2]
    drawn = [
        risk_coverage(samples.label[rows], samples.prob[rows], threshold)[2]
        for block in draw_weights(samples.video_label, resamples, np.random.default_rng(seed), samples.person)
        for rows in (np.repeat(np.arange(samples.videos), column) for column in block.T.astype(np.int64))
    ]
    if not drawn:
        return {"value": value, "low": None, "high": None}
    known = all(samples.independent(fake) > 1 for fake in (False, True) if (samples.label == fake).any())
    low, high = percentile_interval(np.array(drawn)) if known else (0.0, 1.0)
    return {"value": value, "low": low, "high": high}


def manipulations(
    label: ArrayLike,
    prob: ArrayLike,
    video: Iterable,
    kind: Sequence[str],
    *,
    level: str = "video",
    person: Iterable | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> GroupReport | None:
    """Return the AUC of each kind of fake against all reals, worst first, with mean and gap; None without two kinds of fakes.

    Args:
        kind: `(N,)` names of the kinds of fakes; those of reals do not count. The others as `training.metrics.groups.by_group`.
    """
    fake = np.asarray(label) == 1
    kinds: list[str] = [name if one else "" for name, one in zip(kind, fake.tolist(), strict=True)]
    if fake.all() or len(set(kinds) - {""}) < 2:
        return None
    return by_group(label, prob, video, kinds, level=level, person=person, resamples=resamples, seed=seed)


def told(report: GroupReport) -> dict[str, Any]:
    """Return manipulations for metrics.json: `{"mean", "gap", "worst_first": [{"name", "videos_fake", "auc", "found"}]}`."""
    each = [
        {"name": one.name, "videos_fake": one.fake, "auc": asdict(one)["auc"], "found": asdict(one)["found"]}
        for one in report.groups
    ]
    return {"mean": report.macro, "gap": report.gap, "worst_first": each}


def thinned(coverage: NDArray[np.float64], risk: NDArray[np.float64], most: int = 1500) -> tuple[NDArray, NDArray]:
    """Return at most so many points of a curve, its ends among them, for drawing."""
    chosen = np.linspace(0, len(risk) - 1, min(len(risk), most)).astype(int)
    return coverage[chosen], risk[chosen]
