"""The tools on a detector of clips that train.py has trained and tested, beside a detector of images."""

import csv
import json

import pytest
import yaml
from helpers.pack import write_pack
from helpers.training_runs import arguments, call

from analysis import calibration, gradcam, leaderboard, robustness, tsne

DETECTOR = {
    "model_name": "i3d",
    "backbone_name": "resnet3d_tiny",
    "pretrained": None,
    "resolution": 32,
    "clip_size": 4,
    "train_dataset": ["FaceForensics++"],
    "test_dataset": ["FaceForensics++"],
    "train_batchSize": 4,
    "test_batchSize": 4,
    "frame_num": {"train": 8, "val": 8, "test": 8},
    "workers": 0,
    "label_dict": {"FF-real": 0, "FF-DF": 1, "FF-NT": 1},
}
SHORT = "FaceForensics++/FF-DF/c23/953_974"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory; one of the test videos has fewer frames than a clip."""
    root = tmp_path_factory.mktemp("clips")
    places = write_pack(root, frames=9)
    (path,) = (root / "json").glob("FaceForensics++.json")
    index = json.loads(path.read_text())
    text = json.dumps(index)
    video = _video(index, "953_974", "FF-DF")
    video["frames"] = video["frames"][:3]
    assert json.dumps(index) != text
    path.write_text(json.dumps(index))
    (root / "clips.yaml").write_text(yaml.safe_dump(DETECTOR | places))
    assert call(arguments(root / "clips.yaml", root / "run", max_steps=1)) == 0
    return root / "run"


def _video(node: dict, name: str, label: str) -> dict:
    """Return the entry of a video wherever it stands in an index."""
    if isinstance(node.get(name), dict) and node[name].get("label") == label:
        return node[name]
    below = (_video(value, name, label) for value in node.values() if isinstance(value, dict))
    return next((found for found in below if found), {})


def _rows(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_scores_are_of_clips_and_short_videos_are_counted_and_listed(trained):
    folder = trained / "results/FaceForensics++"
    rows = _rows(folder / "predictions.csv")
    videos = {row["video"] for row in rows}
    assert len(videos) == 4
    assert len(rows) == 2 * len(videos), "two clips of each"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["counts"]["too_short"] == 1
    tested = [metrics["coverage"][kind] for kind in ("real", "fake")]
    assert [sum(part.get(key, 0) for part in tested) for key in ("too_short", "skipped")] == [1, 0]
    assert (folder / "too_short.txt").read_text() == SHORT + "\n"
    said = [line for line in (trained / "train.log").read_text().splitlines() if "give no clip" in line]
    assert len(said) == 1
    assert said[0].endswith(f"1 of 5 test videos have fewer than 4 frames and give no clip: {SHORT}")
    report = (trained / "report.html").read_text()
    assert "1 video with fewer frames than a clip has no score" in report
    assert "Videos too short" in report


def test_tools_take_clips_and_images_alike(trained, make_run_dir, tmp_path, capsys):
    robustness.main([str(trained), "--kinds", "h264", "--severities", "5", "--device", "cpu"])
    rows = {(row["level"], row["kind"]): row["auc"] for row in _rows(trained / "analysis/robustness/robustness.csv")}
    tested = json.loads((trained / "results/results.json").read_text())["datasets"]["FaceForensics++"]
    assert float(rows["video", "clean"]) == pytest.approx(tested["video"]["auc"]["value"])
    assert ("video", "h264") in rows
    gradcam.main([str(trained), "--faces", "2", "--measure", "2", "--device", "cpu"])
    assert (trained / "analysis/gradcam/heatmaps.png").stat().st_size > 10_000
    measured = _rows(trained / "analysis/gradcam/faithfulness.csv")
    assert {row["map"] for row in measured} == {"Grad-CAM"}
    assert {float(row["chance"]) for row in measured if row["chance"]} <= {1 / 16}
    capsys.readouterr()
    mixed = make_run_dir("images", datasets=("Celeb-DF-v2",))
    leaderboard.main([str(trained), str(mixed), "--out", str(tmp_path / "table")])
    said = capsys.readouterr().out
    assert "| i3d |" in said
    assert "| clip_ln |" in said


@pytest.mark.slow
def test_calibration_and_features_of_clips(trained):
    calibration.main([str(trained), "--device", "cpu"])
    assert (trained / "checkpoints/operating_point.json").exists()
    tsne.main([str(trained), "--methods", "pca"])
    assert list((trained / "analysis/tsne").glob("pca.png"))
