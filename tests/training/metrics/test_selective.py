"""Silence: what conformal limits promise holds on new scores, and the risk–coverage curve equals its definition."""

import math

import numpy as np
import pytest

from common.errors import ConfigError
from training.metrics.selective import Limits, conformal_limits, measure_silence, risk_coverage


def draw(rng, n, apart):
    label = (rng.random(n) < 0.4).astype(int)
    return label, 1 / (1 + np.exp(-(rng.normal(size=n) + apart * (label - 0.5))))


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0, 12.0])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_either_mistake_is_as_rare_as_promised(apart, alpha):
    rng = np.random.default_rng(0)
    mistakes = []
    for _ in range(300):
        found = measure_silence(*draw(rng, 400, apart), conformal_limits(*draw(rng, 100, apart), alpha))
        mistakes.append((found.real_called_fake, found.fake_called_real))
    assert (np.mean(mistakes, axis=0) < alpha * 1.1).all()
    if apart == 12:
        assert found.coverage == 1
    if apart == 0:
        assert found.coverage < 3 * alpha  # nothing can be said of what cannot be told apart


def test_frames_of_one_video_count_as_one_score():
    """A frame of a new video is called wrongly as rarely as promised, though frames of a video are nearly copies."""
    rng = np.random.default_rng(3)

    def videos(n):
        label, frames = rng.integers(0, 2, n), rng.integers(1, 30, n)
        logit = rng.normal(size=n) + 1.5 * (label - 0.5)
        name = np.repeat(np.arange(n), frames)
        return label[name], 1 / (1 + np.exp(-(logit[name] + rng.normal(0, 0.3, len(name))))), name

    mistakes, counted_alone = [], 0
    for _ in range(200):
        label, prob, name = videos(24)
        limits = conformal_limits(label, prob, 0.1, name)
        counted_alone += math.isfinite(conformal_limits(label, prob, 0.1).high) - math.isfinite(limits.high)
        label, prob, name = videos(400)
        one = np.unique(name, return_index=True)[1]  # one frame of each video
        found = measure_silence(label[one], prob[one], limits)
        mistakes.append((found.real_called_fake, found.fake_called_real))
    assert (np.mean(mistakes, axis=0) < 0.11).all()
    assert (np.mean(mistakes, axis=0) > 0.03).all(), "they are no more careful than they need to be"
    assert counted_alone > 0, "a hundred frames of eight videos are eight scores"
    # Four frames of one video, and one each of nine: (10 + 1) · 0.8 = 8.8, reached at the ninth video.
    prob = np.r_[np.full(4, 0.05), np.arange(1, 10) / 10]
    assert conformal_limits(np.zeros(13, int), prob, 0.2, np.r_[[0] * 4, range(1, 10)]).high == pytest.approx(0.8)


def test_limits_are_order_statistics():
    prob = np.arange(1, 40) / 40
    label = np.zeros(39, int)
    # (39 + 1) · 0.9 = 36: the 36th smallest of the reals; of no fakes nothing is known.
    assert conformal_limits(label, prob, 0.1) == Limits(-math.inf, 36 / 40, 0.1)
    assert conformal_limits(1 - label, prob, 0.1) == Limits(pytest.approx(4 / 40), math.inf, 0.1)


def test_with_few_scores_nothing_is_said():
    for n, known in ((18, False), (19, True)):
        limits = conformal_limits([0] * n + [1] * n, [0.2] * n + [0.8] * n, 0.05)
        assert (limits.verdict(0.99) == "fake") is known
        assert (limits.verdict(0.01) == "real") is known


def test_verdicts():
    limits = Limits(0.3, 0.7, 0.1)
    assert [limits.verdict(p) for p in (0.29, 0.3, 0.5, 0.7, 0.71)] == ["real", None, None, None, "fake"]
    found = measure_silence([0, 0, 1, 1, 1], [0.1, 0.9, 0.2, 0.5, 0.9], limits)
    assert (found.coverage, found.error) == (0.8, 0.5)
    assert (found.real_called_fake, found.fake_called_real) == (0.5, pytest.approx(1 / 3))
    assert measure_silence([1], [0.5], limits).error is None
    for alpha in (0, 1, -0.1):
        with pytest.raises(ConfigError, match="alpha must lie between 0 and 1"):
            conformal_limits([0, 1], [0.1, 0.9], alpha)


def test_risk_and_coverage():
    label, prob = [0, 1, 0, 1], [0.1, 0.3, 0.6, 0.95]
    # By certainty: 0.95 right, 0.1 right, 0.3 wrong, 0.6 wrong.
    coverage, risk, area = risk_coverage(label, prob)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert area == pytest.approx((1 / 3 + 1 / 2) / 4)


def test_equally_certain_scores_count_as_their_mean_in_any_order():
    rng = np.random.default_rng(1)
    label, prob = rng.integers(0, 2, 60), rng.random(60).round(1)
    _, risk, area = risk_coverage(label, prob)
    means = []
    for _ in range(3000):
        order = rng.permutation(60)
        order = order[np.argsort(-np.abs(prob[order] - 0.5), kind="stable")]
        means.append(np.cumsum((prob[order] > 0.5) != label[order]) / np.arange(1, 61))
    np.testing.assert_allclose(np.mean(means, axis=0), risk, atol=0.02)
    assert area == pytest.approx(risk.mean())
