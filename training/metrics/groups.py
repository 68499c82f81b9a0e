"""Figures group by group (manipulations, generators, skin tones …), worst first, and how far groups lie apart.

The same resamples are drawn for all groups, so that a macro average and a gap have intervals too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import ConfigError, DataError
from training.metrics.bootstrap import draw_weights, score_rows
from training.metrics.decision import HALF, called_fake
from training.metrics.evaluate import Figure, percentile_interval
from training.metrics.samples import Samples, gather

# Merging scores into so many rows moves an AUC by less than a hundred-thousandth.
_ROWS = 1 << 16
OWN, REALS, FAKES = "its own", "all reals", "all fakes"
ABSENT: Figure = {"value": None, "low": None, "high": None}
Weights = NDArray[np.float32]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class GroupFigures:
    """One group.

    Attributes:
        name: the group's. real, fake: its videos.
        against: what its AUC is over: `its own` reals and fakes; where it lacks a class, its fakes against `all reals`, or its
            reals against `all fakes`.
        auc, found, false_alarms: value and 95 % interval; of its own fakes and reals, the share that is called fake.
    """

    name: str
    real: int
    fake: int
    against: str
    auc: Figure
    found: Figure
    false_alarms: Figure


@dataclass(frozen=True)
class GroupReport:
    """All groups of one column.

    Attributes:
        groups: those with the smallest AUC first. macro: mean AUC of the groups that have fakes, each counting alike.
        gap: AUC of the best of these less that of the worst; the interval is of these two, chosen after seeing them.
    """

    groups: list[GroupFigures]
    macro: Figure
    gap: Figure


def by_group(
    label: ArrayLike,
    prob: ArrayLike,
    video: Iterable,
    group: Iterable[str],
    *,
    level: str = "video",
    threshold: float = HALF,
    person: Iterable | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> GroupReport:
    """Return the figures of every group.

    Args:
        label: `(N,)`, 0 real, 1 fake. prob: `(N,)`, fake probability. video: N names.
        group: N names, the same for all frames of a video; those of an empty name are in no group, but real ones without a
            group are among `all reals`.
        level: `frame` or `video` (the mean of its frames). threshold: above it a score is called fake.
        person: N names of the people who are shown, None or empty where unknown: people are then drawn, and not videos.
        resamples, seed: of the bootstrap.

    Raises:
        DataError: as `training.metrics.samples.gather`, or a video in two groups, or no group at all. ConfigError: unknown level.
    """
    if level not in ("frame", "video"):
        raise ConfigError(f"level must be frame or video, not {level}")
    frames = gather(label, prob, video, person=person)
    group_of, names = _group_of_videos(frames, list(group))
    samples = frames.by_video() if level == "video" else frames
    rows, count, _ = score_rows(samples, _ROWS)
    measured = [_Group(samples, group_of, number, rows, count, threshold) for number in range(len(names))]
    ones = np.ones((samples.videos, 1), np.float32)
    points = _measure(samples, measured, rows, count, ones)
    rng = np.random.default_rng(seed)
    blocks = [
        _measure(samples, measured, rows, count, weights)
        for weights in draw_weights(samples.video_label, resamples, rng, samples.person)
    ]
    draws = np.concatenate(blocks, axis=2) if blocks else np.empty((len(measured), 3, 0))
    figures = [
        GroupFigures(
            name,
            one.videos(False),
            one.videos(True),
            one.against,
            *(_figure(points[number, k, 0], draws[number, k], one.certain(k)) for k in range(3)),
        )
        for number, (name, one) in enumerate(zip(names, measured))
    ]
    order = sorted(range(len(names)), key=lambda number: (figures[number].auc["value"], names[number]))
    forged = [number for number in order if measured[number].against != FAKES] or order
    auc, (worst, best) = draws[:, 0], (forged[0], forged[-1])
    certain = {number: measured[number].certain(0) for number in forged}
    macro = _figure(points[forged, 0, 0].mean(), _mean(auc[forged]), all(certain.values()))
    apart = points[best, 0, 0] - points[worst, 0, 0]
    gap = _figure(apart, auc[best] - auc[worst], certain[worst] and certain[best], absent=(-1.0, 1.0))
    return GroupReport([figures[number] for number in order], macro, gap)


def _group_of_videos(samples: Samples, group: list[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Return each video's group `(V,)`, -1 for none, and the groups' names."""
    if len(group) != len(samples.video):
        raise DataError(f"there are {len(samples.video)} predictions and {len(group)} names of groups")
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(name, len(numbers)) if name else -1 for name in group], np.int64)
    of_video = np.full(samples.videos, -1, np.int64)
    of_video[samples.video] = codes
    if (apart := np.flatnonzero(of_video[samples.video] != codes)).size:
        first, names = int(apart[0]), list(numbers)
        other = of_video[samples.video[first]]
        raise DataError(
            f"frames of one video are in the groups `{group[first]}` and `{names[other] if other >= 0 else ''}`; a group is of "
            "whole videos"
        )
    if not numbers:
        raise DataError("no video is in a group: the column is empty")
    return of_video, list(numbers)


class _Group:
    """The samples of one group, and those it is compared with."""

    def __init__(self, samples: Samples, group_of: NDArray, number: int, rows: NDArray, count: int, threshold: float):
        self.samples, inside = samples, group_of == number
        mine = inside[samples.video]
        self.own = {fake: np.flatnonzero(mine & (samples.label == fake)) for fake in (False, True)}
        self.against = OWN if len(self.own[False]) and len(self.own[True]) else REALS if len(self.own[True]) else FAKES
        self.called = called_fake(samples.prob, threshold).astype(np.float32)
        self.reals = placements_among(samples, self.own[False], rows, count) if self.against == OWN else None

    def videos(self, fake: bool) -> int:
        return len(np.unique(self.samples.video[self.own[fake]]))

    def certain(self, figure: int) -> bool:
        """Return whether there are two or more, of whoever is drawn, in each class that a figure needs."""
        needs = {1: (True,), 2: (False,)}.get(figure, (True, False))
        return all(self._independent(fake, whole=figure == 0) > 1 for fake in needs)

    def _independent(self, fake: bool, whole: bool) -> int:
        if whole and not len(self.own[fake]):
            return self.samples.independent(fake)
        videos = np.unique(self.samples.video[self.own[fake]])
        return len(videos if self.samples.person is None else np.unique(self.samples.person[videos]))

    def share_called(self, fake: bool, weights: Weights) -> Values:
        """Return the share of its fakes, or of its reals, that is called fake, `(R,)`; NaN where there is none."""
        drawn = weights[self.samples.video[self.own[fake]]]
        return _ratio((drawn * self.called[self.own[fake], None]).sum(0), drawn.sum(0))


Placed = Callable[[Weights], Values]


def placements_among(samples: Samples, others: NDArray[np.int64], rows: NDArray, count: int) -> Placed:
    """Return a function from video weights `(V, R)` to the share of the `others` that lie below each row `(K, R)`, ties half."""
    from scipy.sparse import csr_matrix

    ones = np.ones(len(others), np.float32)
    matrix = csr_matrix((ones, (rows[others], samples.video[others])), shape=(count, samples.videos))

    def below(weights: Weights) -> Values:
        at = (matrix @ weights).astype(np.float64)
        not_above = np.cumsum(at[::-1], axis=0)[::-1]  # rows run from the highest score down
        return _ratio(not_above - at / 2, not_above[:1])

    return below


def _measure(samples: Samples, groups: list[_Group], rows: NDArray, count: int, weights: Weights) -> Values:
    """Return AUC, share of fakes found, and false alarms of every group, `(G, 3, R)`."""
    everybody = {
        fake: placements_among(samples, np.flatnonzero(samples.label == fake), rows, count)(weights)
        for fake, needed in ((False, REALS), (True, FAKES))
        if any(one.against == needed for one in groups)
    }
    found = np.empty((len(groups), 3, weights.shape[1]))
    for number, one in enumerate(groups):
        fakes = one.against != FAKES
        own = one.own[fakes]
        among = one.reals(weights) if one.reals is not None else everybody[not fakes]
        drawn = weights[samples.video[own]]
        placed = _ratio((drawn * among[rows[own]]).sum(0), drawn.sum(0))
        found[number] = (
            placed if fakes else 1 - placed,
            one.share_called(True, weights),
            one.share_called(False, weights),
        )
    return found


def _ratio(part: NDArray, whole: NDArray) -> Values:
    whole = np.broadcast_to(np.asarray(whole, np.float64), part.shape)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(auc: Values) -> Values:
    """Return the mean over the groups that a resample holds, `(R,)`."""
    held = ~np.isnan(auc)
    return _ratio(np.where(held, auc, 0).sum(0), held.sum(0))


def _figure(value: float, draws: Values, certain: bool, absent: tuple[float, float] = (0.0, 1.0)) -> Figure:
    if np.isnan(value):
        return dict(ABSENT)
    held = draws[~np.isnan(draws)]
    if not len(draws):
        return {"value": float(value), "low": None, "high": None}
    low, high = percentile_interval(held) if certain and len(held) else absent
    return {"value": float(value), "low": low, "high": high}
