"""A test says of how many videos its figures are, warns when some are missing, and counts them as it is told."""

import json
import shutil

import pytest
from helpers.pack import write_pack
from helpers.training_runs import arguments, call, write_settings

from common.standing import standing
from training import test as testing
from training.dataset.index.covered import Covered
from training.trainer.checkpoint import data_info_of

CROPS = {"finder": "hog", "predictor": "p81.dat", "scale": 1.3, "size": 256, "version": 1}


def write_coverage(house, crops=CROPS, name="FaceForensics++", reals=(1, 1, 1), train=True) -> None:
    """Beside the pack's index, of two real and three fake test videos: so many real ones without a face, unreadable, absent."""

    def slot(frames, no_face=0, unreadable=0, absent=0):
        names = {"no_face": no_face, "unreadable": unreadable, "absent": absent}
        listed = {why: [f"{why}{i}" for i in range(count)] for why, count in names.items()}
        return {"expected": frames + sum(names.values()), "frames": frames, **listed}

    labels = {
        "FF-real": {"train": {"c23": slot(3)}, "val": {"c23": slot(1)}, "test": {"c23": slot(2, *reals)}},
        "FF-DF": {"train": {"c23": slot(3)}, "val": {"c23": slot(1)}, "test": {"c23": slot(2)}},
        "FF-NT": {"train": {"c23": slot(1)}, "val": {"c23": slot(1)}, "test": {"c23": slot(1)}},
    }
    content = {"dataset": name, "crops": crops, "labels": labels}
    (house / f"json/{name}.coverage.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A small run on data with a coverage, and the data."""
    root = tmp_path_factory.mktemp("stands")
    settings = write_settings(root, write_pack(root), "test_dataset: [FaceForensics++]\n")
    write_coverage(root)
    assert call(arguments(settings, root / "run", "--max_steps", 1, workers=0)) == 0
    return root


@pytest.fixture
def house(first, tmp_path):
    """A copy of one test's own."""
    shutil.copytree(first, tmp_path / "house")
    return tmp_path / "house"


def again(house, *words):
    places = {"rgb_dir": house / "rgb", "dataset_json_folder": house / "json", "workers": 0}
    sets = [word for key, value in places.items() for word in ("--set", f"{key}={value}")]
    return call(["--detector_path", str(house / "run"), "--device", "cpu", *map(str, words), *sets], testing.main)


def metrics(house, dataset="FaceForensics++"):
    return json.loads((house / f"run/results/{dataset}/metrics.json").read_text())


def test_expected_and_scored_stand_in_metrics_table_and_report(house, capsys):
    assert again(house) == 0
    found = metrics(house)
    assert found["coverage"]["real"] == {
        "expected": 5, "scored": 2, "no_face": 1, "unreadable": 1, "absent": 1, "skipped": 0,
    }  # fmt: skip
    assert found["coverage"]["fake"]["scored"] == found["coverage"]["fake"]["expected"] == 3
    assert found["coverage"]["missing"] == "exclude"
    assert found["counts"]["people"] == 2
    said = capsys.readouterr().err
    assert "5/8, left out" in said
    assert (
        "only 62.5 % of the test set was scored, 5 of 8 videos (1 without a face, 1 unreadable, 1 absent; left out)"
        in said
    )
    row = next(line for line in said.splitlines() if line.startswith("FaceForensics++  "))
    assert row.split()[1].startswith("["), "with few videos the interval comes first"
    report = (house / "run/report.html").read_text()
    for word in ("Videos scored / expected", "5/8, left out", "Videos without a face", "only 62.5 % of the test set"):
        assert word in report


@pytest.mark.parametrize("missing", [0, 1])
def test_only_a_short_test_set_gives_a_warning(house, missing):
    write_coverage(house, reals=(missing, 0, 0))
    assert again(house) == 0
    log = (house / "run/test.log").read_text()
    assert f"5/{5 + missing}" in log
    assert ("WARNING FaceForensics++: only 83.3 % of the test set" in log) == bool(missing)
    assert ("of the test set was scored" in log) == bool(missing)


def test_missing_videos_count_as_a_coin_where_that_is_asked_for(house, capsys):
    plain = metrics(house)["video"]["auc"]["value"]
    assert again(house, "--missing", "chance") == 0
    found = metrics(house)
    assert found["coverage"]["missing"] == "chance"
    pairs, scored = 5 * 3, 2 * 3
    assert found["video"]["auc"]["value"] == pytest.approx((plain * scored + (pairs - scored) / 2) / pairs)
    said = capsys.readouterr().err
    assert "5/8, as a coin" in said
    assert "replaced" not in said, "other test sets of the same weights stay"
    assert "5/8, as a coin" in (house / "run/report.html").read_text()


def test_an_index_without_a_coverage_says_unknown(house, capsys):
    (house / "json/FaceForensics++.coverage.json").unlink()
    assert again(house, "--missing", "chance") == 0
    found = metrics(house)
    assert found["coverage"]["real"]["expected"] is None
    assert found["crops"] is None
    assert "crops_note" not in found
    said = capsys.readouterr().err
    assert "5/unknown" in said
    assert "how many are missing is unknown" in said
    assert "5/unknown" in (house / "run/report.html").read_text()


def test_a_video_that_cannot_be_read_is_expected_and_skipped(house, capsys):
    for path in (house / "rgb").rglob("youtube/c23/frames/974/*.png"):
        path.write_bytes(b"no picture")
    assert again(house, "--set", "data.on_error=skip") == 0
    found = metrics(house)
    assert (found["coverage"]["real"]["scored"], found["coverage"]["real"]["skipped"]) == (1, 1)
    assert standing(found).tested.missing == 4
    assert "VIDEOS SKIPPED" in capsys.readouterr().err


def test_people_of_a_video_are_scored_and_counted_as_the_one_video(house):
    """A second person's entry is no further video, neither of those expected nor of those scored."""
    path = house / "json/FaceForensics++.json"
    index = json.loads(path.read_text())
    videos = index["FaceForensics++"]["FF-real"]["test"]["c23"]
    text = json.dumps(videos["974"]).replace("frames/974/", "frames/974_person2/")
    videos["974_person2"] = json.loads(text)
    for kind in ("frames", "landmarks"):
        place = next((house / "rgb").rglob(f"youtube/c23/{kind}/974"))
        shutil.copytree(place, place.with_name("974_person2"))
    path.write_text(json.dumps(index))
    coverage = json.loads((house / "json/FaceForensics++.coverage.json").read_text())
    coverage["labels"]["FF-real"]["test"]["c23"]["people"] = ["974_person2"]
    (house / "json/FaceForensics++.coverage.json").write_text(json.dumps(coverage))
    assert again(house) == 0
    found = metrics(house)
    assert found["counts"]["videos_real"] == 3
    assert (found["coverage"]["real"]["expected"], found["coverage"]["real"]["scored"]) == (5, 2)
    assert standing(found).tested.missing == 3


def test_faces_cut_otherwise_than_the_trainings_are_told(house, capsys):
    assert data_info_of(house / "run/checkpoints/last.pth").crops == {"FaceForensics++": CROPS}
    assert json.loads((house / "run/results/results.json").read_text())["crops"] == {"FaceForensics++": CROPS}
    assert metrics(house)["crops"] == CROPS
    assert "crops_note" not in metrics(house)
    write_coverage(house, CROPS | {"finder": "yunet", "scale": 1.5})
    assert again(house) == 0
    said = (
        "its faces were cut otherwise than the training's, which stand in brackets: finder yunet (hog), scale 1.5 (1.3)"
    )
    assert said in capsys.readouterr().err
    assert "finder yunet (hog)" in metrics(house)["crops_note"]
    assert "finder yunet (hog)" in (house / "run/report.html").read_text()


def test_a_split_is_unknown_until_it_is_told():
    assert Covered().classes is None
    assert Covered().crops is None
