import csv
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from analysis.measures import robustness_journal
from analysis.measures.robustness_journal import conditions, journal_key, measure, read_done
from analysis.robustness import draw, sheet, summarise, write_tables
from common.errors import DataError
from prediction.trained import Video, predict_images, videos


class Brightness:
    """A detector that calls bright pictures fake and counts what it is asked."""

    seen = 0

    def prepare(self, batch):
        return {"image": batch["image"].float() / 255}

    def __call__(self, batch, inference=False):
        assert inference
        assert set(batch) == {"image"}, "evaluation under perturbation never hands over labels"
        self.seen += len(batch["image"])
        return {"prob": batch["image"].flatten(1).mean(1)}


def made_videos(count=8, clips=False):
    rng = np.random.default_rng(0)
    for number in range(count):
        label = number % 2
        shape = (3, 2, 3, 16, 16) if clips else (3, 3, 16, 16)
        image = rng.integers(0, 160, shape) + 90 * label * (number > 1) + 2 * number
        yield Video(f"X/{label}/{number}", label, label, np.arange(3), image.clip(0, 255).astype(np.uint8))


WANTED = conditions(["jpeg", "brightness"], [2, 5])


def test_entries_hold_the_probabilities_of_perturbed_frames(tmp_path):
    entries = measure(Brightness(), made_videos(), tmp_path / "x.jsonl", WANTED)
    for entry, video in zip(entries, made_videos()):
        clean = video.image.reshape(3, -1).mean(1) / 255
        np.testing.assert_allclose(entry["prob"]["clean-0"], clean, rtol=1e-5)
        np.testing.assert_allclose(entry["prob"]["brightness-5"], 0.25 * clean, rtol=0.01)


def test_clips_keep_their_shape(tmp_path):
    entries = measure(Brightness(), made_videos(clips=True), tmp_path / "x.jsonl", WANTED)
    video = next(made_videos(clips=True))
    np.testing.assert_allclose(entries[0]["prob"]["clean-0"], video.image.reshape(3, -1).mean(1) / 255, rtol=1e-5)


def test_a_second_call_goes_on_where_the_first_stopped(tmp_path):
    path = tmp_path / "x.jsonl"
    whole = measure(Brightness(), made_videos(), path, WANTED)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5]) + lines[5][:40])
    detector = Brightness()
    assert measure(detector, made_videos(), path, WANTED) == whole
    assert detector.seen == 3 * 3 * len(WANTED)  # three videos of three frames were missing
    assert [json.loads(line)["video"] for line in path.read_text().splitlines()] == [v.name for v in made_videos()]
    assert len(read_done(path, conditions(["jpeg"], [1]))) == 0, "other conditions were not measured"
    path.write_text(lines[0][:40] + "\n" + lines[1])
    with pytest.raises(DataError, match="line 1 is damaged"):
        read_done(path, WANTED)


def test_table_and_figure(tmp_path):
    entries = measure(Brightness(), made_videos(), tmp_path / "x.jsonl", WANTED)
    rows = summarise(entries, WANTED, "bright", "X")
    assert len(rows) == 2 * len(WANTED)
    for row in rows:
        if row["level"] != "frame":
            continue
        prob = np.concatenate([e["prob"][f"{row['kind']}-{row['severity']}"] for e in entries])
        assert row["auc"] == pytest.approx(roc_auc_score(np.repeat([e["label"] for e in entries], 3), prob))
        assert row["low"] <= row["auc"] <= row["high"]
    jpeg = next(row for row in rows if row["kind"] == "jpeg" and row["severity"] == 5)
    assert (jpeg["parameter"], jpeg["value"]) == ("quality", 10)
    other = [row | {"detector": "dark"} for row in rows]
    written = write_tables([*rows, *other], tmp_path / "out")
    assert {path.suffix for path in written} == {".csv", ".md", ".tex", ".html", ".png", ".pdf"}
    with open(tmp_path / "out/robustness.csv", newline="") as file:
        assert float(next(csv.DictReader(file))["auc"]) == rows[0]["auc"]
    assert all(path.stat().st_size > 1000 for path in draw([*rows, *other], tmp_path / "figure"))


def test_table_has_a_line_per_perturbation_and_a_column_per_severity(tmp_path):
    rows = summarise(measure(Brightness(), made_videos(), tmp_path / "x.jsonl", WANTED), WANTED, "bright", "X")
    table = sheet(rows, "video")
    assert table.columns == ["Detector", "Test set", "Perturbation", "Untouched", "Severity 2", "Severity 5"]
    assert [line[:3] for line in table.rows] == [["bright", "X", "JPEG"], ["bright", "X", "Brightness"]]
    values = {(row["kind"], row["severity"]): row["auc"] for row in rows if row["level"] == "video"}
    expected = [values["clean", 0], values["jpeg", 2], values["jpeg", 5]]
    assert table.rows[0][3:] == [f"{value:.4f}" for value in expected]
    assert "JPEG: quality" in table.caption


@pytest.mark.parametrize("people", [None, [*range(7), -1, -1, *range(11)]])
def test_untouched_frames_have_the_interval_of_testing(people):
    """The same videos or people are drawn, as often, from the run's seed: one figure has one interval."""
    from training.metrics import evaluate

    rng = np.random.default_rng(0)
    entries = [
        {"video": f"X/{n}", "label": n % 2, "prob": {"clean-0": (0.3 * (n % 2) + 0.7 * rng.random(3)).tolist()}}
        for n in range(20)
    ]
    if people:
        for entry, person in zip(entries, people):
            entry["person"] = person
    label, video, prob = zip(*((e["label"], e["video"], p) for e in entries for p in e["prob"]["clean-0"]))
    person = people and [None if who < 0 else who for who in people for _ in range(3)]
    for seed in (0, 7):
        tested = evaluate(label, prob, video, seed=seed, person=person)
        for row in summarise(entries, [("clean", 0)], "d", "X", seed):
            wanted = tested[row["level"]]["auc"]
            assert (row["low"], row["high"]) == pytest.approx((wanted["low"], wanted["high"]), abs=1e-9)


def test_other_checkpoints_seeds_and_parameters_have_other_journals(monkeypatch):
    before = journal_key("a", 0)
    assert before == journal_key("a", 0)
    changed = robustness_journal.SEVERITIES | {"jpeg": ("quality", (99, 98, 97, 96, 95))}
    keys = {before, journal_key("b", 0), journal_key("a", 1)}
    monkeypatch.setattr(robustness_journal, "SEVERITIES", changed)
    keys.add(journal_key("a", 0))
    monkeypatch.setattr(robustness_journal, "VERSION", 0)  # the same parameters, but other pixels
    keys.add(journal_key("a", 0))
    assert len(keys) == 5


def test_a_video_whose_pixels_changed_is_scored_anew(tmp_path):
    path = tmp_path / "x.jsonl"
    measure(Brightness(), made_videos(), path, WANTED)
    changed = list(made_videos())
    changed[3].image[:] = 255 - changed[3].image
    detector = Brightness()
    entries = measure(detector, changed, path, WANTED)
    assert detector.seen == 3 * len(WANTED)
    np.testing.assert_allclose(entries[3]["prob"]["clean-0"], changed[3].image.reshape(3, -1).mean(1) / 255, rtol=1e-5)
    again = Brightness()
    assert measure(again, changed, path, WANTED) == entries
    assert again.seen == 0, "of two lines on a video the later one counts"


def test_videos_join_the_batches_of_a_loader():
    batches = [
        {
            "video": names,
            "label": torch.tensor([int(n == "b") for n in names]),
            "method": torch.zeros(len(names), dtype=torch.int64),
            "frame": torch.tensor(frames),
            "target_id": torch.tensor(["abc".index(n) - 1 for n in names]),
            "image": torch.full((len(names), 3, 4, 4), 7, dtype=torch.uint8),
        }
        for names, frames in ((["a", "a"], [0, 5]), (["a", "b"], [9, 1]), (["b", "c"], [2, 3]))
    ]
    found = list(videos(batches))
    assert [(v.name, v.label, v.frame.tolist()) for v in found] == [
        ("a", 0, [0, 5, 9]),
        ("b", 1, [1, 2]),
        ("c", 0, [3]),
    ]
    assert [v.person for v in found] == [-1, 0, 1]
    assert found[0].image.shape == (3, 3, 4, 4)
    assert list(videos([])) == []


def test_batch_size_does_not_change_predictions():
    image = next(made_videos()).image
    np.testing.assert_allclose(
        predict_images(Brightness(), image, 2), predict_images(Brightness(), image, 32), rtol=1e-6
    )
