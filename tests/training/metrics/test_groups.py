"""Figures per group: each equals what a plain computation over the group's rows gives, and intervals are of common draws."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from common.errors import ConfigError, DataError
from training.metrics.bootstrap import draw_weights
from training.metrics.groups import FAKES, OWN, REALS, by_group
from training.metrics.samples import gather


def scores(videos=60, frames=3, seed=0):
    """Reals of two sources and unsorted ones, fakes of two generators, and a group that has both."""
    rng = np.random.default_rng(seed)
    kinds = ["", "studio", "phone", "swap", "talk", "both"]
    kind = rng.integers(len(kinds), size=videos)
    label = np.where(kind < 3, 0, np.where(kind < 5, 1, np.arange(videos) % 2))
    prob = 1 / (1 + np.exp(-(rng.normal(size=(videos, frames)) + label[:, None] * (kind[:, None] - 2.5)))).round(2)
    names = [f"v{number}" for number in range(videos)]
    repeat = np.repeat(np.arange(videos), frames)
    return label[repeat], prob.ravel(), [names[v] for v in repeat], [kinds[kind[v]] for v in repeat]


def level_of(level, label, prob, video, group):
    if level == "frame":
        return label, prob, np.array(group)
    rows = {name: np.flatnonzero(np.array(video) == name) for name in dict.fromkeys(video)}
    firsts = [row[0] for row in rows.values()]
    return label[firsts], np.array([prob[row].mean() for row in rows.values()]), np.array(group)[firsts]


def plain_auc(label, prob, group, name, weight=None):
    inside = group == name
    if len(set(label[inside])) == 1:
        inside = inside | (label != label[inside][0])
    if weight is not None and any(not weight[inside & (label == side)].any() for side in (0, 1)):
        return np.nan  # a draw without one of the classes
    if weight is None:
        return roc_auc_score(label[inside], prob[inside])
    return roc_auc_score(label[inside], prob[inside], sample_weight=weight[inside])


@pytest.mark.parametrize("level", ["frame", "video"])
def test_figures_are_those_of_the_groups_rows(level):
    data = scores()
    report = by_group(*data, level=level, resamples=0)
    label, prob, group = level_of(level, *data)
    assert {one.name: one.against for one in report.groups} == {
        "studio": FAKES, "phone": FAKES, "swap": REALS, "talk": REALS, "both": OWN,
    }  # fmt: skip
    for one in report.groups:
        assert one.auc["value"] == pytest.approx(plain_auc(label, prob, group, one.name), abs=1e-9), one.name
        own = group == one.name
        for figure, fake in ((one.found, 1), (one.false_alarms, 0)):
            chosen = own & (label == fake)
            wanted = (prob[chosen] > 0.5).mean() if chosen.any() else None
            assert figure["value"] == (wanted if wanted is None else pytest.approx(wanted, abs=1e-6))
    aucs = [one.auc["value"] for one in report.groups]
    assert aucs == sorted(aucs)
    forged = [one.auc["value"] for one in report.groups if one.fake]
    assert report.macro["value"] == pytest.approx(np.mean(forged))
    assert report.gap["value"] == pytest.approx(forged[-1] - forged[0])


@pytest.mark.parametrize("with_people", [False, True])
def test_intervals_equal_a_plain_loop_over_the_draws(with_people):
    label, prob, video, group = scores(videos=50, frames=2)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(video))}
    person = [f"p{numbers[name] % 17}" for name in video] if with_people else None
    report = by_group(label, prob, video, group, level="frame", person=person, resamples=80, seed=4)
    samples = gather(label, prob, video, person=person)
    weights = np.concatenate(
        list(draw_weights(samples.video_label, 80, np.random.default_rng(4), samples.person)), axis=1
    )
    loops = {one.name: [] for one in report.groups}
    for column in weights.T:
        for name, found in loops.items():
            found.append(plain_auc(label, prob, np.array(group), name, column[samples.video]))
    for one in report.groups:
        low, high = np.nanpercentile(loops[one.name], [2.5, 97.5])
        assert (one.auc["low"], one.auc["high"]) == pytest.approx((low, high), abs=1e-6), one.name
    forged = [one.name for one in report.groups if one.fake]
    means = np.nanmean([loops[name] for name in forged], axis=0)
    assert (report.macro["low"], report.macro["high"]) == pytest.approx(
        tuple(np.percentile(means, [2.5, 97.5])), abs=1e-6
    )
    gaps = np.subtract(loops[forged[-1]], loops[forged[0]])
    assert (report.gap["low"], report.gap["high"]) == pytest.approx(
        tuple(np.nanpercentile(gaps, [2.5, 97.5])), abs=1e-6
    )


def test_a_group_of_one_video_has_no_interval_to_speak_of():
    label, prob, video = [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.6, 0.5, 0.7, 0.9], list("abcdef")
    report = by_group(label, prob, video, ["", "", "", "one", "two", "two"])
    one = next(found for found in report.groups if found.name == "one")
    assert one.auc == {"value": pytest.approx(2 / 3), "low": 0, "high": 1}
    assert one.found == {"value": 0, "low": 0, "high": 1}
    assert one.false_alarms["value"] is None
    assert (report.gap["low"], report.gap["high"]) == (-1, 1)


def test_what_is_no_grouping_is_said():
    label, prob, video = [0, 0, 1], [0.1, 0.2, 0.9], ["a", "a", "b"]
    with pytest.raises(DataError, match="frames of one video are in the groups `y` and `x`"):
        by_group(label, prob, video, ["y", "x", "x"])
    with pytest.raises(DataError, match="no video is in a group"):
        by_group(label, prob, video, ["", "", ""])
    with pytest.raises(DataError, match="3 predictions and 2 names"):
        by_group(label, prob, video, ["a", "b"])
    with pytest.raises(ConfigError, match="level must be frame or video"):
        by_group(label, prob, video, ["x", "x", "x"], level="clip")
