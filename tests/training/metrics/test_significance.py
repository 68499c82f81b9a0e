import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from common.errors import ConfigError, DataError
from training.metrics import delong, evaluate, paired_bootstrap
from training.metrics.significance import holm, placements


def two_detectors(n=90, gain=0.8, seed=0, decimals=2):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.6).astype(int)
    shared = rng.normal(size=n) + label
    scores = [shared + rng.normal(size=n), shared + gain * label + rng.normal(size=n)]
    return label, *((1 / (1 + np.exp(-s))).round(decimals) for s in scores)


def delong_by_pairs(label, first, second):
    """The 1988 paper as it stands: all pairs of a fake and a real, structural components, sample covariances."""
    components = []
    for prob in (first, second):
        fake, real = prob[label == 1][:, None], prob[label == 0][None]
        kernel = (fake > real) + 0.5 * (fake == real)
        components.append((kernel.mean(), kernel.mean(1), kernel.mean(0)))
    (auc_a, fake_a, real_a), (auc_b, fake_b, real_b) = components
    s10, s01 = np.cov(fake_a, fake_b), np.cov(real_a, real_b)
    contrast = np.array([1, -1])
    variance = contrast @ (s10 / len(fake_a) + s01 / len(real_a)) @ contrast
    z = (auc_a - auc_b) / np.sqrt(variance)
    return auc_a, auc_b, np.sqrt(variance), 2 * norm.sf(abs(z))


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_delong_equals_the_definition(decimals):
    label, a, b = two_detectors(decimals=decimals)
    auc_a, auc_b, error, p = delong_by_pairs(label, a, b)
    found = delong(label, a, b)
    assert found.a == pytest.approx(auc_a, abs=1e-12)
    assert found.b == pytest.approx(auc_b, abs=1e-12)
    assert found.p == pytest.approx(p, rel=1e-9)
    assert found.high - found.difference == pytest.approx(1.959964 * error, rel=1e-9)
    assert found.a == pytest.approx(roc_auc_score(label, a), abs=1e-12)


def test_placements_average_to_the_auc_from_both_sides():
    label, a, _ = two_detectors(decimals=1)
    auc, of_fake, of_real = placements(label == 1, a)
    assert of_fake.mean() == pytest.approx(auc) == pytest.approx(of_real.mean())


def test_swapping_detectors_turns_the_difference():
    label, a, b = two_detectors()
    one, other = delong(label, a, b), delong(label, b, a)
    assert one.difference == -other.difference
    assert one.p == pytest.approx(other.p)
    assert one.low == pytest.approx(-other.high)


def test_one_sample_a_video_is_the_plain_test():
    label, a, b = two_detectors()
    plain, clustered = delong(label, a, b), delong(label, a, b, range(len(label)))
    assert clustered.p == pytest.approx(plain.p, rel=1e-9)


def test_copies_of_a_frame_add_no_evidence():
    label, a, b = two_detectors()
    plain = delong(label, a, b)
    video = np.arange(len(label)).repeat(5)
    copied = delong(label.repeat(5), a.repeat(5), b.repeat(5), video)
    naive = delong(label.repeat(5), a.repeat(5), b.repeat(5))
    assert copied.p == pytest.approx(plain.p, rel=1e-6)
    assert naive.p < plain.p / 10


def test_clustered_error_agrees_with_the_bootstrap():
    rng = np.random.default_rng(3)
    videos, frames = 150, 6
    fake = rng.random(videos) < 0.5
    base = rng.normal(size=videos) + fake
    label, video = fake.repeat(frames).astype(int), np.arange(videos).repeat(frames)
    a, b = (1 / (1 + np.exp(-(base.repeat(frames) + rng.normal(size=videos * frames)))) for _ in range(2))
    test, boot = delong(label, a, b, video), paired_bootstrap(label, a, b, video, resamples=1000)
    assert test.high - test.low == pytest.approx(boot.high - boot.low, rel=0.12)
    assert test.difference == pytest.approx(boot.difference, abs=1e-9)


def test_false_alarms_come_as_often_as_announced():
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(300):
        label = np.repeat([0, 1], 40)
        shared = rng.normal(size=80) + label
        a, b = (1 / (1 + np.exp(-(shared + rng.normal(size=80)))) for _ in range(2))
        alarms += delong(label, a, b).p < 0.05
    assert 4 <= alarms <= 28  # 15 expected, ± 3.4 standard deviations


def test_same_scores_are_no_difference():
    label, a, _ = two_detectors()
    assert delong(label, a, a).p == 1
    assert paired_bootstrap(label, a, a, range(len(label)), resamples=50).p == 1


def test_one_video_of_a_class_shows_nothing():
    found = delong([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1], ["r", "r", "f", "g"])
    assert (found.p, found.low, found.high) == (1, -1, 1)


@pytest.mark.parametrize("metric", ["auc", "eer", "ap", "acc", "acc_fake", "tnr_at_tpr95"])
@pytest.mark.parametrize("level", ["frame", "video"])
def test_paired_bootstrap_reports_the_figures_of_evaluate(metric, level):
    label, a, b = two_detectors(120, gain=2.0)
    names = np.array([f"{y}-{i // 3}" for i, y in enumerate(label)])
    found = paired_bootstrap(label, a, b, names, metric=metric, level=level, resamples=200)
    for value, prob in ((found.a, a), (found.b, b)):
        assert value == pytest.approx(evaluate(label, prob, names, bootstrap=0)[level][metric]["value"])
    assert found.low <= found.difference <= found.high
    assert found.p >= 1 / 200


def test_paired_bootstrap_sees_a_clear_gain():
    label, a, b = two_detectors(200, gain=2.5)
    found = paired_bootstrap(label, a, b, range(200), resamples=500)
    assert found.high < 0
    assert found.p < 0.01


def test_bad_requests():
    label, a, b = two_detectors()
    with pytest.raises(ConfigError, match="unknown metric f1"):
        paired_bootstrap(label, a, b, range(len(label)), metric="f1")
    with pytest.raises(ConfigError, match="level"):
        paired_bootstrap(label, a, b, range(len(label)), level="clip")
    with pytest.raises(DataError, match="fake samples only"):
        delong([1, 1], [0.1, 0.2], [0.1, 0.3])


def test_holm_steps_down_and_never_lets_a_larger_p_pass_a_smaller():
    raw = [0.01, 0.04, 0.03, 0.005, np.nan, 0.9]
    # Smallest first: 5 · .005, 4 · .01, 3 · .03, then 2 · .04 = .08 < .09, which is kept, and .9.
    assert holm(raw) == pytest.approx([0.04, 0.09, 0.09, 0.025, np.nan, 0.9], nan_ok=True)
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_holm_holds_the_error_of_a_family():
    rng = np.random.default_rng(0)
    families = rng.random((4000, 12))
    any_false = np.mean([holm(family).min() < 0.05 for family in families])
    assert any_false < 0.06 < np.mean(families.min(axis=1) < 0.05)


def test_people_are_drawn_with_all_their_videos():
    """Six people of six videos each, of whom a detector likes some: videos alone make the interval far too narrow."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(24), 6)
    label = np.repeat(np.arange(24) % 2, 6)
    prob = 1 / (1 + np.exp(-(np.repeat(rng.normal(size=24), 6) + 0.5 * label + 0.05 * rng.normal(size=144))))
    other = np.clip(prob + 0.02 * rng.normal(size=144), 0, 1)
    by_video = paired_bootstrap(label, prob, 1 - other, range(144))
    by_person = paired_bootstrap(label, prob, 1 - other, range(144), person=person)
    assert by_person.difference == by_video.difference
    assert by_person.high - by_person.low > 1.6 * (by_video.high - by_video.low)
    assert by_person.method.endswith("people")
