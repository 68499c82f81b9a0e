"""Beside the ranking: risk over coverage with an interval, and manipulations, each against all reals."""

import numpy as np
import pytest

from training.metrics import evaluate
from training.metrics.beside import manipulations, risk_area, told
from training.trainer.results import by_manipulation


def made(seed=0, videos=120):
    rng = np.random.default_rng(seed)
    kind = np.array(["real", "easy", "hard"])[rng.integers(0, 3, videos)]
    label = (kind != "real").astype(int)
    prob = 1 / (1 + np.exp(-rng.normal(size=videos) - np.select([kind == "easy", kind == "hard"], [3, 0.7], 0)))
    return label, prob, [f"v{number}" for number in range(videos)], kind.tolist()


def test_the_mean_is_of_aucs_of_one_kind_against_all_reals():
    label, prob, video, kind = made()
    report = manipulations(label, prob, video, kind, resamples=200)
    alone = {}
    for name in ("easy", "hard"):
        chosen = (label == 0) | (np.array(kind) == name)
        alone[name] = evaluate(label[chosen], prob[chosen], np.array(video)[chosen], bootstrap=0)["video"]["auc"][
            "value"
        ]
    found = told(report)
    assert [one["name"] for one in found["worst_first"]] == ["hard", "easy"]
    assert {one["name"]: one["auc"]["value"] for one in found["worst_first"]} == pytest.approx(alone)
    assert found["mean"]["value"] == pytest.approx(np.mean(list(alone.values())))
    assert found["gap"]["value"] == pytest.approx(alone["easy"] - alone["hard"])
    assert found["mean"]["low"] < found["mean"]["value"] < found["mean"]["high"]
    counts = {"counts": {"videos_real": 50, "videos_fake": 70}}
    said = by_manipulation({"A": {"manipulations": found} | counts, "B": counts})
    assert said.startswith(f"A, video AUC by manipulation: mean {found['mean']['value']:.4f} [")
    assert "worst first: hard" in said
    assert "B" not in said


def test_without_two_kinds_or_without_reals_there_is_no_mean():
    label, prob, video, kind = made()
    one = np.array(kind) != "hard"
    assert manipulations(label[one], prob[one], np.array(video)[one], np.array(kind)[one].tolist()) is None
    fakes = label == 1
    assert manipulations(label[fakes], prob[fakes], np.array(video)[fakes], np.array(kind)[fakes].tolist()) is None


def test_area_is_of_videos_and_has_an_interval_over_people():
    # By certainty: 0.95 right, 0.1 right, 0.3 wrong, 0.6 wrong; the first in two frames.
    area = risk_area([0, 1, 0, 1, 1], [0.1, 0.3, 0.6, 0.94, 0.96], ["a", "b", "c", "d", "d"], resamples=0)
    assert area == {"value": pytest.approx((1 / 3 + 1 / 2) / 4), "low": None, "high": None}
    label, prob, video, _ = made()
    by_video = risk_area(label, prob, video, resamples=200)
    assert 0 < by_video["low"] < by_video["value"] < by_video["high"] < 1
    copies = 4  # of everybody: as many videos, and no more people
    of_people = risk_area(
        *(np.repeat(label, copies), np.repeat(prob, copies), [f"{v}{k}" for v in video for k in range(copies)]),
        person=np.repeat(np.arange(len(video)), copies).tolist(),
        resamples=200,
    )
    width = by_video["high"] - by_video["low"]
    assert of_people["high"] - of_people["low"] == pytest.approx(width, rel=0.25)
    # Of a single real there is nothing to resample.
    assert risk_area([0, 1, 1], [0.1, 0.3, 0.6], "abc", resamples=20)["high"] == 1
