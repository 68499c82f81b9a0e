"""What a test leaves in a run directory is of that test alone, and says what it is not about."""

import json
import shutil

import pytest
from helpers.pack import VIDEOS, write_pack
from helpers.training_runs import arguments, call, write_settings

from analysis import leaderboard
from analysis.curves import main as curves
from analysis.reporting.sections import Section, folder_of, write_section
from common.rundir import open_run
from training import test as testing


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The data of a small run, and the run."""
    root = tmp_path_factory.mktemp("former")
    note = "test_dataset: [FaceForensics++]\ndata_note: Nobody here exists.\n"
    settings = write_settings(root, write_pack(root), note)
    assert call(arguments(settings, root / "run", "--max_steps", 4, workers=0)) == 0
    return root


@pytest.fixture
def house(first, tmp_path):
    """A copy of one test's own."""
    shutil.copytree(first, tmp_path / "house")
    return tmp_path / "house"


def again(house, *words, **keys):
    places = {"rgb_dir": house / "rgb", "dataset_json_folder": house / "json", "workers": 0, **keys}
    sets = [word for key, value in places.items() for word in ("--set", f"{key}={value}")]
    return call(["--detector_path", str(house / "run"), "--device", "cpu", *map(str, words), *sets], testing.main)


def summary(house):
    return json.loads((house / "run/results/results.json").read_text())


def test_skipped_samples_are_counted_everywhere_and_forgotten_when_mended(house, capsys):
    broken = next((house / "rgb").rglob("frames/974/000.png"))
    good = broken.read_bytes()
    broken.write_bytes(b"no picture")
    assert again(house, **{"data.on_error": "skip"}) == 0
    said = capsys.readouterr().err
    assert "SKIPPED SAMPLES" in said
    assert "FaceForensics++: 1 sample could not be read" in said
    folder = house / "run/results/FaceForensics++"
    for counts in (json.loads((folder / "metrics.json").read_text())["counts"], _counts(house)):
        assert counts["skipped"] == 1
    report = (house / "run/report.html").read_text()
    assert "Skipped samples" in report
    assert "1 sample could not be read" in report
    assert "974" in (folder / "skipped.txt").read_text()
    broken.write_bytes(good)
    assert again(house, "--no-save_feat") == 0
    assert _counts(house)["skipped"] == 0
    left = {path.name for path in folder.iterdir()}
    assert left == {"metrics.json", "predictions.csv", "examples.png", "examples.json"}
    assert "Skipped samples" not in (house / "run/report.html").read_text()


def _counts(house):
    return summary(house)["datasets"]["FaceForensics++"]["counts"]


def test_places_are_no_other_settings_and_other_settings_leave_nothing_behind(house, capsys):
    write_pack(house, name="Celeb-DF-v2")
    write_section(folder_of(house / "run", "tsne"), Section("Features", "Of these results."))
    assert again(house, "--test_dataset", "Celeb-DF-v2") == 0
    shutil.move(house / "rgb", house / "elsewhere")
    # The same folders under other names, speed, and what only training listens to.
    more = {
        "rgb_dir": f"{house}/run/../elsewhere",
        "lmdb_dir": "nowhere",
        "nEpochs": 11,
        "val_dataset": "[Celeb-DF-v2]",
    }
    assert again(house, "--test_dataset", "FaceForensics++", **more) == 0
    assert set(summary(house)["datasets"]) == {"FaceForensics++", "Celeb-DF-v2"}
    assert "replaced" not in capsys.readouterr().err
    assert (house / "run/results/Celeb-DF-v2/predictions.csv").exists()
    assert "Of these results." in (house / "run/report.html").read_text()
    more["mean"] = "[0.4,0.5,0.5]"
    (house / "run/results/Celeb-DF-v2/mine.txt").write_text("a note of the user's own")
    assert again(house, "--test_dataset", "FaceForensics++", **more) == 0
    assert list(summary(house)["datasets"]) == ["FaceForensics++"]
    assert [path.name for path in (house / "run/results/Celeb-DF-v2").iterdir()] == ["mine.txt"]
    assert "run those tools again" in capsys.readouterr().err
    assert "Of these results." not in (house / "run/report.html").read_text()


def test_what_was_trained_on_is_said_as_that_by_whatever_settings_the_weights_are_tested(house, capsys):
    """`nobody in them exists` is not about the videos under test."""
    write_settings(house, {"rgb_dir": house / "rgb", "dataset_json_folder": house / "json"}, "train_dataset: [Other]\n")
    text = (house / "settings.yaml").read_text().replace("train_dataset: [FaceForensics++]\n", "", 1)
    (house / "settings.yaml").write_text(text + "test_dataset: [FaceForensics++]\n")
    weights = next(path for name in ("best", "last") if (path := house / f"run/checkpoints/{name}.pth").exists())
    words = arguments(house / "settings.yaml", house / "own", "--weights_path", weights, workers=0)
    assert call(words, testing.main) == 0
    assert "About the training data: Nobody here exists." in capsys.readouterr().err
    assert "About the training data: Nobody here exists." in (house / "own/report.html").read_text()
    assert json.loads((house / "own/results/results.json").read_text())["train_dataset"] == ["FaceForensics++"]


@pytest.mark.parametrize("absent", ["FF-real", "fakes"])
def test_a_test_set_of_one_class_gives_what_it_allows(house, absent, capsys, monkeypatch):
    fakes = absent == "FF-real"
    videos = {label: splits for label, splits in VIDEOS.items() if (label == "FF-real") != fakes}
    write_pack(house, name="Found", videos=videos)
    assert again(house, "--test_dataset", "Found", "FaceForensics++") == 0
    said = capsys.readouterr().err
    assert f"Found holds {'fakes' if fakes else 'reals'} only: {'recall' if fakes else 'false alarms'} at 0.5" in said
    found = summary(house)["datasets"]["Found"]
    assert found["frame"]["auc"]["value"] is None
    assert found["video"]["acc_fake" if fakes else "acc_real"]["value"] is not None
    row = next(line for line in said.splitlines() if line.startswith("Found  "))
    assert row.split()[1] == "–"
    report = (house / "run/report.html").read_text()
    assert "s only, no AUC" in report
    assert "Score histogram of Found" in report
    assert (
        leaderboard.main(
            [str(house / "run"), str(house / "run"), "--names", "a", "b", "--compare", "--out", str(house)]
        )
        == 0
    )
    assert "Found" not in (house / "leaderboard_frame.md").read_text()
    assert curves([str(house / "run"), "--out", str(house / "figures")]) == 0
    assert "Found: one class only" in capsys.readouterr().out
    assert open_run(house / "run").predictions("Found").one_class
    assert again(house, "--test_dataset", "Found", mean="[0.4,0.5,0.5]") == 0
    assert curves([str(house / "run"), "--out", str(house / "alone")]) == 0
    assert {path.stem for path in (house / "alone").iterdir()} == {"datasets_frame_scores"}
