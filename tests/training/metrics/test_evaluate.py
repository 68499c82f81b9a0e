import json
import math

import numpy as np
import pytest
from sklearn import metrics as reference

from common.errors import ConfigError, DataError
from common.means import mean_score
from training.metrics import evaluate
from training.metrics.bootstrap import draw_weights
from training.metrics.decision import called_fake
from training.metrics.samples import gather


def predictions(videos=60, frames=8, decimals=2, seed=0):
    """Scores with ties, videos of different lengths, real rarer than fake."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, frames + 1, videos)
    label = rng.random(videos) < 0.7
    label[:2] = [False, True]
    logit = rng.normal(size=videos).repeat(length) + rng.normal(size=length.sum()) + 1.3 * label.repeat(length)
    video = np.array([f"set/{'fake' if fake else 'real'}/{i}" for i, fake in enumerate(label)]).repeat(length)
    return label.repeat(length).astype(int), (1 / (1 + np.exp(-logit))).round(decimals), video


def means(label, prob, video):
    names = list(dict.fromkeys(video.tolist()))
    return (
        np.array([label[video == name][0] for name in names]),
        # Summed exactly: a running sum would break ties between videos by the order of their frames.
        np.array([math.fsum(prob[video == name]) / np.sum(video == name) for name in names]),
    )


def eer_by_segments(label, prob):
    """Walk the ROC polygon and cut each segment with the line FPR = 1 - TPR."""
    fpr, tpr, _ = reference.roc_curve(label, prob, drop_intermediate=False)
    for k in range(1, len(fpr)):
        a, b = fpr[k - 1] + tpr[k - 1] - 1, fpr[k] + tpr[k] - 1
        if a < 0 <= b:
            return fpr[k - 1] + (fpr[k] - fpr[k - 1]) * (-a) / (b - a)
    raise AssertionError("the curve must cross the diagonal")


def expect(label, prob, weight=None):
    fpr, tpr, _ = reference.roc_curve(label, prob, drop_intermediate=False, sample_weight=weight)
    guess = (prob > 0.5).astype(int)
    return {
        "auc": reference.roc_auc_score(label, prob, sample_weight=weight),
        "ap": reference.average_precision_score(label, prob, sample_weight=weight),
        "acc": reference.accuracy_score(label, guess, sample_weight=weight),
        "acc_real": reference.recall_score(label, guess, pos_label=0, sample_weight=weight),
        "acc_fake": reference.recall_score(label, guess, pos_label=1, sample_weight=weight),
        "tnr_at_tpr95": 1 - fpr[np.argmax(tpr >= 0.95 - 1e-12)],
        "tnr_at_tpr80": 1 - fpr[np.argmax(tpr >= 0.80 - 1e-12)],
    }


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_points_equal_scikit_learn_at_both_levels(decimals):
    label, prob, video = predictions(decimals=decimals)
    found = evaluate(label, prob, video, tpr=(0.95, 0.8), bootstrap=0)
    for level, (y, p) in {"frame": (label, prob), "video": means(label, prob, video)}.items():
        for key, value in expect(y, p).items():
            assert found[level][key]["value"] == pytest.approx(value, abs=1e-12), (level, key)
        assert found[level]["eer"]["value"] == pytest.approx(eer_by_segments(y, p), abs=1e-12)
        assert set(found[level]) == {*expect(y, p), "eer"}


def test_contract_keys_and_json():
    label, prob, video = predictions()
    found = json.loads(json.dumps(evaluate(label, prob, video, bootstrap=20), allow_nan=False))
    assert set(found) == {"frame", "video", "counts"}
    assert (
        set(found["frame"])
        == {"auc", "eer", "ap", "acc", "acc_real", "acc_fake", "tnr_at_tpr95"}
        == set(found["video"])
    )
    assert set(found["frame"]["auc"]) == {"value", "low", "high"}
    names = dict(zip(video.tolist(), label.tolist()))
    assert found["counts"] == {
        "frames_real": int((label == 0).sum()),
        "frames_fake": int((label == 1).sum()),
        "videos_real": sum(y == 0 for y in names.values()),
        "videos_fake": sum(y == 1 for y in names.values()),
    }


def test_eer_of_known_curves():
    # Perfect, reversed, uninformative, and one where the curve crosses inside a segment: points (0,.5) to (1,1).
    def eer(label, prob):
        return evaluate(label, prob, range(len(label)), bootstrap=0)["frame"]["eer"]["value"]

    assert eer([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == 0
    assert eer([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9]) == 1
    assert eer([0, 1, 0, 1], [0.5] * 4) == pytest.approx(0.5)
    assert eer([0, 1, 0, 1], [0.2, 0.2, 0.2, 0.9]) == pytest.approx(1 / 3)


def test_tnr_target_met_exactly_is_met():
    # 19 of 20 fakes above every real: a TPR of 0.95 needs no false positive.
    label = [1] * 20 + [0] * 10
    prob = [0.9] * 19 + [0.1] + [0.5] * 10
    assert evaluate(label, prob, range(30), bootstrap=0)["frame"]["tnr_at_tpr95"]["value"] == 1


def test_intervals_equal_a_plain_loop_over_resampled_videos():
    label, prob, video = predictions(videos=25, frames=4)
    found = evaluate(label, prob, video, tpr=(0.95, 0.8), bootstrap=60, seed=5)
    samples = gather(label, prob, video)
    weights = np.concatenate(list(draw_weights(samples.video_label, 60, np.random.default_rng(5))), axis=1)
    _, video_prob = means(label, prob, video)
    for level in ("frame", "video"):
        rows = []
        for column in weights.T:
            repeat = column.astype(int)
            if level == "frame":
                chosen = np.repeat(np.arange(len(label)), repeat[samples.video])
                rows.append(expect(label[chosen], prob[chosen]))
            else:
                chosen = np.repeat(np.arange(len(video_prob)), repeat)
                rows.append(expect(samples.video_label[chosen].astype(int), video_prob[chosen]))
        for key in rows[0]:
            low, high = np.percentile([row[key] for row in rows], [2.5, 97.5])
            assert found[level][key]["low"] == pytest.approx(low, abs=1e-9), (level, key)
            assert found[level][key]["high"] == pytest.approx(high, abs=1e-9), (level, key)


def test_draws_keep_each_class_whole():
    video_label = np.array([False] * 3 + [True] * 7)
    weights = np.concatenate(list(draw_weights(video_label, 130, np.random.default_rng(0))), axis=1)
    assert weights.shape == (10, 130)
    assert (weights[:3].sum(0) == 3).all()
    assert (weights[3:].sum(0) == 7).all()
    assert weights.mean() == 1
    # Multinomial with n = 7 of p = 1/7: variance n p (1 - p).
    assert weights[3:].var() == pytest.approx(6 / 7, rel=0.15)


def test_merged_scores_move_intervals_hardly():
    label, prob, video = predictions(videos=400, frames=10, decimals=12)
    exact = evaluate(label, prob, video, bootstrap=200, max_rows=10**9)
    merged = evaluate(label, prob, video, bootstrap=200, max_rows=256)
    for key, figure in exact["frame"].items():
        assert merged["frame"][key]["value"] == figure["value"]
        tolerance = 0.01 if key.startswith("tnr") else 0.002
        for end in ("low", "high"):
            assert merged["frame"][key][end] == pytest.approx(figure[end], abs=tolerance), key


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # Scores N(0,1) and N(1,1): AUC = Phi(1/sqrt 2) = 0.7602; videos of one frame.
    rng, hits = np.random.default_rng(0), 0
    for trial in range(100):
        score = np.concatenate([rng.normal(0, 1, 60), rng.normal(1, 1, 60)])
        found = evaluate([0] * 60 + [1] * 60, 1 / (1 + np.exp(-score)), range(120), bootstrap=200, seed=trial)
        hits += found["frame"]["auc"]["low"] <= 0.7602 <= found["frame"]["auc"]["high"]
    assert 87 <= hits <= 99


def test_frames_of_a_video_make_frame_intervals_no_narrower_than_the_videos_allow():
    # Ten identical frames a video carry the information of one.
    label, prob, _ = predictions(videos=80, frames=1)
    once = evaluate(label, prob, range(len(label)), bootstrap=300)
    ten = evaluate(label.repeat(10), prob.repeat(10), np.arange(len(label)).repeat(10), bootstrap=300)
    assert ten["frame"]["auc"] == pytest.approx(once["frame"]["auc"])
    assert ten["video"]["auc"] == pytest.approx(once["frame"]["auc"])


def test_same_seed_same_result_and_order_of_frames_does_not_matter_to_points():
    label, prob, video = predictions()
    assert evaluate(label, prob, video, bootstrap=30, seed=1) == evaluate(
        label, prob, video.tolist(), bootstrap=30, seed=1
    )
    assert evaluate(label, prob, video, bootstrap=30, seed=1) != evaluate(label, prob, video, bootstrap=30, seed=2)
    order = np.random.default_rng(0).permutation(len(label))
    shuffled = evaluate(label[order], prob[order], video[order], bootstrap=0)
    for level in ("frame", "video"):
        for key, figure in evaluate(label, prob, video, bootstrap=0)[level].items():
            assert shuffled[level][key]["value"] == pytest.approx(figure["value"], abs=1e-12)


def test_equal_frames_tie_between_videos_of_different_length():
    found = evaluate([0] * 3 + [1] * 7, [0.1] * 10, ["a"] * 3 + ["b"] * 7, bootstrap=0)
    assert found["video"]["auc"]["value"] == 0.5


def test_the_same_scores_in_another_order_are_the_same_video_score():
    scores = [0.1, 0.7, 0.3, 0.9, 0.2, 0.4, 0.6]
    for seed in range(5):
        other = np.random.default_rng(seed).permutation(scores).tolist()
        found = evaluate([0] * 7 + [1] * 7, scores + other, ["a"] * 7 + ["b"] * 7, bootstrap=0)
        assert found["video"]["auc"]["value"] == 0.5
        interleaved = evaluate([0, 1] * 7, np.stack([scores, other], 1).ravel(), ["a", "b"] * 7, bootstrap=0)
        assert interleaved == found
    assert mean_score([0.1] * 3) == 0.1


def test_half_is_real_and_so_says_the_rule_that_prediction_uses_too():
    found = evaluate([0, 1], [0.5, 0.5], ["a", "b"], bootstrap=0)["frame"]
    assert (found["acc_real"]["value"], found["acc_fake"]["value"]) == (1, 0)
    assert called_fake(np.array([0.4, 0.5, np.nextafter(0.5, 1)])).tolist() == [False, False, True]


@pytest.mark.parametrize(("label", "name", "rate"), [(1, "fake", "recall"), (0, "real", "false_alarm_rate")])
def test_one_class_gives_what_it_allows(label, name, rate):
    prob, video = [0.1, 0.5, 0.9, 0.8], ["a", "a", "b", "b"]
    found = json.loads(json.dumps(evaluate([label] * 4, prob, video, bootstrap=50, one_class=True), allow_nan=False))
    both = evaluate([0, 1], [0.1, 0.9], ["a", "b"], bootstrap=50)
    other = {"fake": "real", "real": "fake"}[name]
    for level, called in (("frame", 2 / 4), ("video", 1 / 2)):
        assert list(found[level]) == list(both[level]), "the same figures under the same names"
        for key in ("auc", "eer", "ap", "tnr_at_tpr95", f"acc_{other}"):
            assert found[level][key] == {"value": None, "low": None, "high": None}
        right = called if label else 1 - called
        assert found[level][f"acc_{name}"]["value"] == found[level]["acc"]["value"] == right
        assert found[level]["acc"]["low"] <= right <= found[level]["acc"]["high"]
        assert found["one_class"][level][rate] == called
        assert sum(found["one_class"][level]["histogram"]["counts"]) == {"frame": 4, "video": 2}[level]
    assert found["one_class"]["frame"]["quantiles"]["0.5"] == pytest.approx(0.65)
    assert found["one_class"]["class"] == name
    assert f"holds {name}s only" in found["one_class"]["note"]
    assert found["counts"][f"frames_{other}"] == 0


def test_one_video_in_a_class_admits_knowing_nothing():
    found = evaluate([0, 0, 1, 1, 1], [0.1, 0.2, 0.9, 0.8, 0.3], ["r", "r", "f", "g", "g"], bootstrap=50)["frame"]
    assert (found["auc"]["low"], found["auc"]["high"]) == (0, 1)
    assert (found["acc_real"]["low"], found["acc_real"]["high"]) == (0, 1)
    assert (found["acc_fake"]["low"], found["acc_fake"]["high"]) == (0.5, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.5, -0.1])
def test_values_that_are_no_probabilities_name_the_first_video(bad):
    with pytest.raises(DataError, match=r"CDF.*video b"):
        evaluate([0, 1, 1], [0.2, bad, bad], ["a", "b", "c"], dataset="CDF")


@pytest.mark.parametrize(("label", "missing"), [([1, 1], "add real videos"), ([0, 0], "add fake videos")])
def test_one_class_says_which_is_missing_and_where(label, missing):
    with pytest.raises(DataError, match=f"Celeb-DF-v2.*{missing}"):
        evaluate(label, [0.1, 0.2], ["a", "b"], dataset="Celeb-DF-v2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "no predictions"),
        (([0, 1], [0.1], ["a", "b"]), "2 labels, 1 probabilities"),
        (([0, 2], [0.1, 0.2], ["a", "b"]), r"found \[2\]"),
        (([0, 1], [0.1, 0.2], ["a", "a"]), "video a.*both labels"),
    ],
)
def test_wrong_input_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        evaluate(*arguments)


@pytest.mark.parametrize("tpr", [0, 1, 95, np.nan])
def test_tpr_must_be_a_rate(tpr):
    with pytest.raises(ConfigError, match="tnr_at_tpr"):
        evaluate([0, 1], [0.1, 0.2], ["a", "b"], tpr=(tpr,))


def test_intervals_over_people_equal_a_plain_loop_over_resampled_people():
    label, prob, video = predictions(videos=25, frames=4)
    rng = np.random.default_rng(3)
    of_video = {name: [None, "a", "b", "c", "d", "e", "f", "g"][rng.integers(8)] for name in dict.fromkeys(video)}
    person = [of_video[name] for name in video]
    found = evaluate(label, prob, video, tpr=(0.95, 0.8), bootstrap=60, seed=5, person=person)
    assert found["counts"]["people"] == len({who for who in person if who})
    samples = gather(label, prob, video, person=person)
    assert np.bincount(samples.person)[samples.people :].max() == 1  # the unknown are each by themselves
    for one in set(of_video.values()) - {None}:
        assert len({int(samples.person[samples.video[i]]) for i, who in enumerate(person) if who == one}) == 1
    weights = np.concatenate(
        list(draw_weights(samples.video_label, 60, np.random.default_rng(5), samples.person)), axis=1
    )
    for who in np.unique(samples.person):
        of_one = weights[samples.person == who]
        assert (of_one == of_one[0]).all()
    rows = []
    for column in weights.T:
        chosen = np.repeat(np.arange(len(label)), column.astype(int)[samples.video])
        rows.append(expect(label[chosen], prob[chosen]))
    for key in rows[0]:
        low, high = np.percentile([row[key] for row in rows], [2.5, 97.5])
        assert found["frame"][key]["low"] == pytest.approx(low, abs=1e-9), key
        assert found["frame"][key]["high"] == pytest.approx(high, abs=1e-9), key
    assert "people" not in evaluate(label, prob, video, bootstrap=0)["counts"]


def test_people_are_drawn_by_the_classes_they_are_seen_in():
    label = np.array([False, True, False, False, True, True, False, True])
    person = np.array([0, 0, 1, 2, 3, 3, 4, 4])  # both, real, real, fake, both
    weights = np.concatenate(list(draw_weights(label, 200, np.random.default_rng(0), person)), axis=1)
    assert (weights[[2, 3]].sum(0) == 2).all()
    assert (weights[[4, 5]] == 1).all()
    assert (weights[[0, 6]].sum(0) == 2).all()
    assert (weights[[0, 6]] == weights[[1, 7]]).all()


def test_one_person_in_a_class_leaves_nothing_to_resample():
    label, prob, video = [0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9], "abcd"
    auc = evaluate(label, prob, video, person=["x", "x", "y", "z"])["frame"]["auc"]
    assert (auc["low"], auc["high"]) == (0, 1)


def test_a_video_of_two_people_is_refused():
    with pytest.raises(DataError, match="video a shows x and y"):
        evaluate([0, 0, 1], [0.1, 0.2, 0.3], ["a", "a", "b"], person=["x", "y", "x"])


def test_a_missing_video_counts_as_half_of_one_at_either_end():
    """What a coin's score gives in expectation: scikit-learn's figures with halves above and below all scores."""
    label, prob, video = predictions()
    found = evaluate(label, prob, video, tpr=(0.95, 0.8), bootstrap=0, coins=(3, 5))
    frames = {fake: np.sum(label == fake) / len(set(video[label == fake])) for fake in (0, 1)}
    for level, (y, p) in {"frame": (label, prob), "video": means(label, prob, video)}.items():
        worth = {fake: count * (frames[fake] if level == "frame" else 1) for fake, count in ((0, 3), (1, 5))}
        y = np.concatenate([y, [0, 0, 1, 1]])
        p = np.concatenate([p, [2, -1, 2, -1]])
        weight = np.concatenate([np.ones(len(p) - 4), np.repeat([worth[0], worth[1]], 2) / 2])
        for key, value in expect(y, p, weight).items():
            assert found[level][key]["value"] == pytest.approx(value, abs=1e-12), (level, key)


def test_a_pair_with_a_coin_counts_one_half():
    label, prob, video = predictions(seed=1)
    plain = evaluate(label, prob, video, bootstrap=0)
    found = evaluate(label, prob, video, bootstrap=0, coins=(4, 6))
    real, fake = plain["counts"]["videos_real"], plain["counts"]["videos_fake"]
    pairs = (real + 4) * (fake + 6)
    auc = (plain["video"]["auc"]["value"] * real * fake + (pairs - real * fake) / 2) / pairs
    assert found["video"]["auc"]["value"] == pytest.approx(auc, abs=1e-12)
    assert found["counts"] == plain["counts"], "what has no score is not counted among the scored"


def test_intervals_with_coins_hold_the_figure_and_one_class_has_none_of_the_other():
    label, prob, video = predictions()
    found = evaluate(label, prob, video, bootstrap=200, coins=(9, 9))
    for level in ("frame", "video"):
        for key, figure in found[level].items():
            assert figure["low"] <= figure["value"] <= figure["high"], (level, key)
    merged = evaluate(label, prob, video, bootstrap=200, coins=(9, 9), max_rows=64)["frame"]["auc"]
    for end in ("low", "high"):
        assert merged[end] == pytest.approx(found["frame"]["auc"][end], abs=0.01)
    fakes = evaluate([1, 1], [0.9, 0.8], ["a", "b"], bootstrap=20, coins=(5, 2), one_class=True)
    assert fakes["video"]["acc"]["value"] == fakes["video"]["acc_fake"]["value"] == 0.75
