import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.calibration import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    frequency_intervals,
    logit,
    main,
    negative_log_likelihood,
    operating_threshold,
    reliability,
    threshold_at_tpr,
    too_few,
    validation_predictions,
    without_tested,
)
from common.errors import ConfigError, DataError
from common.predictions import Predictions, read_predictions
from prediction.operating_point import describe_limits, limits_from_json
from training.metrics.decision import called_fake
from training.metrics.selective import conformal_limits, measure_silence


def calibrated(n=20_000, seed=0):
    rng = np.random.default_rng(seed)
    prob = 1 / (1 + np.exp(-rng.normal(0, 2, n)))
    return (rng.random(n) < prob).astype(int), prob


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_temperature_undoes_a_known_one(true):
    label, prob = calibrated()
    sharpened = 1 / (1 + np.exp(-logit(prob) * true))
    assert fit_temperature(label, sharpened) == pytest.approx(true, rel=0.05)
    # Probabilities of 1 - 1e-7 and beyond have lost their logit; the rest comes back.
    kept = np.abs(logit(sharpened)) < 15
    np.testing.assert_allclose(apply_temperature(sharpened, true)[kept], prob[kept], rtol=1e-3, atol=1e-6)


def test_temperature_is_the_lowest_point():
    label, prob = calibrated(500)
    best = fit_temperature(label, prob**2)
    losses = [negative_log_likelihood(label, apply_temperature(prob**2, t)) for t in (best * 0.97, best, best * 1.03)]
    assert losses[1] == min(losses)


def test_ece_by_hand():
    label, prob = [0, 1, 1, 0], [0.1, 0.2, 0.9, 0.95]
    # Ten bins: {0.1}, {0.2}, {0.9, 0.95}; distances 0.1, 0.8, |0.925 - 0.5|.
    assert expected_calibration_error(label, prob, 10) == pytest.approx((0.1 + 0.8 + 2 * 0.425) / 4)
    assert reliability(label, [0, 0.5, 1, 1], 2)["count"].tolist() == [1, 3]
    assert expected_calibration_error(*calibrated()) < 0.015


def test_intervals_are_over_videos_not_frames():
    """300 videos in one bin: by the binomial, whose interval frames would make ten times too narrow."""
    rng = np.random.default_rng(1)
    fake = (rng.random(300) < 0.4).astype(int)
    label, video = np.repeat(fake, 100), np.repeat(np.arange(300), 100)
    low, high = frequency_intervals(label, np.full(30_000, 0.45), video, rng, resamples=2000)
    share = fake.mean()
    half = 1.96 * np.sqrt(share * (1 - share) / 300)
    assert low == pytest.approx([share - half], abs=0.008)
    assert high == pytest.approx([share + half], abs=0.008)
    two = frequency_intervals([0, 1, 1], [0.1, 0.9, 0.9], ["a", "b", "b"], rng)
    assert two.tolist() == [[0, 1], [0, 1]]


def test_threshold_finds_the_share_and_no_lower_one_is_needed():
    rng = np.random.default_rng(0)
    label, prob = rng.integers(0, 2, 101), rng.random(101).round(2)
    for tpr in (0.5, 0.9, 0.95):
        threshold = threshold_at_tpr(label, prob, tpr)
        fakes = prob[label == 1]
        assert (fakes >= threshold).mean() >= tpr
        assert (fakes > threshold).mean() < tpr
    assert threshold_at_tpr([1] * 20, np.arange(20) / 20, 0.95) == 0.05  # 19 of 20, in spite of rounding


def test_operating_threshold_lies_between_scores_and_calls_the_same_ones():
    rng = np.random.default_rng(3)
    label, prob = rng.integers(0, 2, 101), rng.random(101).round(2)
    for tpr in (0.5, 0.9, 0.95):
        lowest, threshold = threshold_at_tpr(label, prob, tpr), operating_threshold(label, prob, tpr)
        assert threshold not in prob
        assert (called_fake(prob, threshold) == (prob >= lowest)).all()
    next_to = np.nextafter(0.3, 1)
    assert called_fake(next_to, operating_threshold([1, 0], [next_to, 0.3], 0.9))


def test_a_validation_that_was_kept_is_taken_for_the_same_videos_only(tmp_path, monkeypatch):
    """Names with a comma or a quote come back as they are; a file that cannot be read, or of others, is written anew."""
    names, asked = ["F/real/a,b", 'F/real/say "x"'], []
    batch = {
        "video": names,
        "label": torch.tensor([0, 1]),
        "method": torch.tensor([0, 1]),
        "frame": torch.tensor([3, 4]),
        "target_id": torch.tensor([-1, 0]),
        "image": torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
    }

    class Loader(list):
        pass

    Loader.index = type("Index", (), {"video_ids": lambda self: names, "__len__": lambda self: 2})()
    monkeypatch.setattr("prediction.trained.predict_images", lambda *_: asked.append(1) or np.array([0.25]))
    config = SimpleNamespace(val_dataset=None, train_dataset=["F"], test_batchSize=2)
    trained = SimpleNamespace(
        path=tmp_path, config=config, detector=None, fingerprint=lambda: "f" * 64, loader=lambda *_: Loader([batch])
    )
    assert validation_predictions(trained).video.tolist() == names
    assert validation_predictions(trained).frame.tolist() == [3, 4]
    assert len(asked) == 2, "the second call took what the first had kept"
    (kept,) = (tmp_path / "analysis/calibration").iterdir()
    kept.write_text("video,frame,label,method,prob\na,b,3,0,0,0.25\n")
    assert validation_predictions(trained).video.tolist() == names
    names[1] = batch["video"][1] = "F/real/other"
    assert validation_predictions(trained).video.tolist() == names
    assert len(asked) == 6


def test_bad_requests():
    with pytest.raises(DataError, match="both classes"):
        fit_temperature([1, 1], [0.2, 0.3])
    with pytest.raises(DataError, match="fake"):
        threshold_at_tpr([0], [0.2], 0.9)
    with pytest.raises(ConfigError, match="--tpr"):
        threshold_at_tpr([1], [0.2], 95)


def predictions(*videos, frames=2):
    names = np.repeat(videos, frames)
    label = np.array(["fake" in name for name in names], np.int64)
    return Predictions(names, np.tile(np.arange(frames), len(videos)), label, label, label * 0.5 + 0.2)


def test_validation_videos_that_stand_in_a_test_set_are_left_out():
    val = predictions("FaceForensics++/real/c23/1", "FaceForensics++/fake/c23/1_2", "FaceForensics++/fake/c23/3_4")
    tests = [predictions("FaceForensics++/fake/c40/1_2"), predictions("Celeb-DF-v2/real/1")]
    assert np.unique(without_tested(val, tests).video).tolist() == [
        "FaceForensics++/fake/c23/3_4",
        "FaceForensics++/real/c23/1",
    ]
    other = predictions("Celeb-DF-v1/CelebDFv1_fake/id0_id1_0001", "Celeb-DF-v1/CelebDFv1_fake/id0_id2_0001")
    again = predictions("Celeb-DF-v2/CelebDFv2_fake/id0_id1_0001")
    assert np.unique(without_tested(other, [again]).video).tolist() == ["Celeb-DF-v1/CelebDFv1_fake/id0_id2_0001"]
    with pytest.raises(DataError, match="every validation video also stands in a test set"):
        without_tested(val, [val])


def test_ece_and_temperature_agree_with_torch():
    """Bins by bucketize, temperature by L-BFGS on the cross-entropy of torch: nothing shared with the tool."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    label, prob = calibrated(800, seed=5)
    prob = prob**1.7
    y, p = torch.tensor(label, dtype=torch.float64), torch.tensor(prob)
    row = torch.bucketize(p, torch.linspace(0, 1, 16, dtype=torch.float64)[1:-1], right=True)
    gaps = [(y[row == b].mean() - p[row == b].mean()).abs() * (row == b).sum() for b in range(15) if (row == b).any()]
    assert expected_calibration_error(label, prob, 15) == pytest.approx(float(sum(gaps)) / 800, abs=1e-12)
    scale = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([scale], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def closure():
        search.zero_grad()
        loss = binary_cross_entropy_with_logits(torch.logit(p, 1e-7) / scale.exp(), y)
        loss.backward()
        return loss

    search.step(closure)
    assert fit_temperature(label, prob) == pytest.approx(float(scale.exp().detach()), rel=1e-4)


def test_command_keeps_the_operating_point_and_shows_it(own_run, tmp_path, capsys):
    tested = own_run / "results/FaceForensics++/predictions.csv"
    with pytest.raises(DataError, match="also stands in a test set"):
        main([str(own_run), "--val_predictions", str(tested)])
    # The same scores under other names, and one video that is tested too.
    head, *lines = tested.read_text().splitlines()
    other = [line.replace("/c23/", "/c23/1") for line in lines]
    csv = tmp_path / "val.csv"
    csv.write_text("\n".join([head, *other, *lines[:6]]) + "\n")
    main([str(own_run), "--val_predictions", str(csv), "--tpr", "0.9"])
    point = json.loads((own_run / "checkpoints/operating_point.json").read_text())
    judged = json.loads((own_run / "analysis/calibration/calibration.json").read_text())["datasets"]
    assert judged["validation"]["tpr"] >= 0.9
    assert judged["validation"]["nll_calibrated"] <= judged["validation"]["nll"] + 1e-9
    assert judged["validation"] == judged["FaceForensics++"], "the video that is tested too was left out"
    assert point["left_out"].startswith("1 validation video")
    assert point["target_tpr"] == 0.9
    assert "Calibration" in (own_run / "report.html").read_text()
    said = capsys.readouterr().out
    assert f"threshold {point['threshold']:.6f}" in said
    # Threshold and temperature of one level, and what the threshold costs: from the very scores, level by level.
    val = read_predictions(csv)
    val = val.where(np.array(["/c23/1" in name for name in val.video.tolist()]))
    for part, data in ((point, val.by_video()), (point["frame"], val)):
        assert part["level"] == ("frame" if part is point["frame"] else "video")
        assert part["threshold"] == operating_threshold(data.label, data.prob, 0.9)
        assert part["temperature"] == fit_temperature(data.label, data.prob)
        alarms = called_fake(data.prob[data.label == 0], part["threshold"]).mean()
        assert part["validation"]["false_alarms"] == alarms
        assert f"calls {alarms:.1%} of {(data.label == 0).sum()} reals fake" in said
        wanted = conformal_limits(data.label, data.prob, 0.1, data.video)
        assert limits_from_json(part["limits"]) == wanted
        silence = measure_silence(data.label, data.prob, wanted)
        found = judged["validation"] if part is point else judged["validation"]["frame"]
        assert (found["cannot_say"]["coverage"], found["cannot_say"]["error"]) == (silence.coverage, silence.error)
        assert describe_limits(wanted) in said
    assert "Celeb-DF-v2, videos: " in said
    assert "get a verdict by the limits" in said
    assert point["threshold"] != point["frame"]["threshold"]
    assert judged["Celeb-DF-v2"]["level"] == "video"
    assert judged["Celeb-DF-v2"]["frame"]["level"] == "frame"


def test_limits_by_hand_and_too_few_said():
    """Nine videos of a class are the fewest for a tenth: the limit is then the most extreme one."""
    from analysis.calibration import fit

    def made(reals, fakes):
        label = np.array([0] * reals + [1] * fakes)
        prob = np.concatenate([np.arange(1, reals + 1) / 20, 1 - np.arange(1, fakes + 1) / 20])
        names = np.array([f"d/{'fake' if one else 'real'}/{number}" for number, one in enumerate(label)])
        return Predictions(names, np.zeros(len(label), int), label, label, prob)

    enough, short = made(9, 9), made(8, 9)
    # Nine reals up to 0.45, nine fakes down to 0.55: both limits would exclude what lies between, and meet in the middle.
    assert fit("video", enough, 0.9)["limits"] == pytest.approx({"low": 0.5, "high": 0.5, "alpha": 0.1})
    assert too_few(enough, 0.1) == ""
    assert fit("video", short, 0.9)["limits"] == {"low": pytest.approx(0.55), "high": None, "alpha": 0.1}
    assert too_few(short, 0.1) == (
        "Validation has 8 real videos, and --alpha 0.1 needs 9 of each class: nothing is called fake; "
        "add validation videos, or raise --alpha"
    )
    assert "8 real and 3 fake videos" in too_few(made(8, 3), 0.1)
    assert "nothing is called fake or real" in too_few(made(8, 3), 0.1)


def test_results_of_other_weights_are_not_judged(own_run, monkeypatch):
    trained = SimpleNamespace(weights=own_run / "checkpoints/last.pth")
    monkeypatch.setattr("prediction.trained.load_trained", lambda *_: trained)
    with pytest.raises(DataError, match=r"best\.pth.*last\.pth is to be calibrated"):
        main([str(own_run)])
