"""Bad input through the entry points: one sentence with the culprit and the remedy, exit code 2, nothing half-written."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.pack import write_pack
from helpers.training_runs import ROOT, arguments, call, environment, write_settings

from analysis import calibration, curves, gradcam, report
from prediction import predict
from training import test as testing
from training import train


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = tmp_path_factory.mktemp("pack")
    return write_settings(root, write_pack(root), "test_dataset: [FaceForensics++]\n")


@pytest.fixture
def refused(tmp_path, capsys):
    """Return a function that calls a program, checks how it refuses, and returns the sentence."""
    run = tmp_path / "run"

    def call_it(settings, *more, program=train.main, log_dir=run, **keys) -> str:
        assert call(arguments(settings, log_dir, *more, **keys), program) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(said) == 1
        assert not run.exists(), "a refused run leaves nothing behind"
        return said[0]

    return call_it


def changed(settings, tmp_path, old: str, new: str):
    """Write the settings again with one change."""
    text = settings.read_text()
    assert old in text
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(old, new))
    return path


def test_a_settings_file_that_is_not_there(refused, tmp_path):
    sentence = refused(tmp_path / "nowhere.yaml")
    assert "nowhere.yaml" in sentence


def test_settings_that_are_no_yaml(refused, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("model_name: meso4\n  optimizer: [")
    assert "broken.yaml" in refused(path)


@pytest.mark.parametrize("flag", ["--train_dataset", "--test_dataset"])
def test_a_dataset_without_an_index(refused, settings, flag):
    sentence = refused(settings, flag, "Celeb-DF-v9")
    assert "Celeb-DF-v9.json" in sentence
    assert "rearrange" in sentence or "dataset_json_folder" in sentence


def test_an_unknown_key_is_answered_with_the_nearest(refused, settings, tmp_path):
    sentence = refused(changed(settings, tmp_path, "nEpochs: 10", "nEpoch: 10"))
    assert "changed.yaml" in sentence
    assert "nEpochs" in sentence
    assert "nEpochs" in refused(settings, nEpoch=3)


def test_an_unknown_detector_is_answered_with_those_there_are(refused, settings, tmp_path):
    sentence = refused(changed(settings, tmp_path, "model_name: meso4", "model_name: mesonet4"))
    assert "meso4" in sentence.split("mesonet4", 1)[1]


def test_a_wrong_type_names_the_key(refused, settings):
    assert "resolution" in refused(settings, resolution="large")
    assert "train_batchSize" in refused(settings, train_batchSize=-3)


@pytest.mark.parametrize("value", ["missing.pth", "https://example.org/xception.pth"])
def test_pretrained_weights_that_are_not_there(refused, settings, tmp_path, value):
    settings = changed(settings, tmp_path, "model_name: meso4", "model_name: xception")
    sentence = refused(settings, pretrained=value)
    assert value in sentence
    assert "training/pretrained" in sentence


def test_an_index_that_ends_too_early(refused, settings, tmp_path):
    places = write_pack(tmp_path)
    index = tmp_path / "json/FaceForensics++.json"
    index.write_bytes(index.read_bytes()[:-40])
    sentence = refused(settings, dataset_json_folder=places["dataset_json_folder"])
    assert "FaceForensics++.json" in sentence


def spoil(frame: Path, how: str) -> None:
    """Remove a picture, or leave half of it, nothing of it, or something else in its place."""
    content = {"cut": frame.read_bytes()[: frame.stat().st_size // 2], "emptied": b"", "replaced": b"no picture"}
    frame.unlink()
    if how != "missing":
        frame.write_bytes(content[how])


@pytest.mark.parametrize("how", ["missing", "cut", "emptied", "replaced"])
@pytest.mark.parametrize("video", ["071", "953"])  # of the training split, and of the test split
def test_a_frame_that_cannot_be_read(how, video, tmp_path, capsys):
    settings = write_settings(tmp_path, write_pack(tmp_path), "test_dataset: [FaceForensics++]\n")
    spoil(next((tmp_path / "rgb").rglob(f"frames/{video}/000.png")), how)
    assert call(arguments(settings, tmp_path / "run", workers=0, nEpochs=1, SWA="false", ema_decay="null")) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert f"frames/{video}/000.png" in said[0]
    assert "preprocess.py" in said[0]
    assert not (tmp_path / "run/results").exists()


@pytest.mark.parametrize(("split", "missing"), [("train", "real"), ("train", "fake"), ("val", "real"), ("val", "fake")])
def test_a_training_or_validation_set_of_one_class(refused, settings, tmp_path, split, missing):
    places = write_pack(tmp_path)
    path = tmp_path / "json/FaceForensics++.json"
    index = json.loads(path.read_text())
    for name, splits in index["FaceForensics++"].items():
        if (name == "FF-real") == (missing == "real"):
            del splits[split]
    path.write_text(json.dumps(index))
    sentence = refused(settings, dataset_json_folder=places["dataset_json_folder"])
    assert f"holds no {missing} video" in sentence
    assert f"{split}_dataset" in sentence


def test_a_log_directory_that_cannot_be_written(refused, settings, tmp_path):
    (tmp_path / "file").write_text("in the way")
    sentence = refused(settings, log_dir=tmp_path / "file" / "run")
    assert str(tmp_path / "file") in sentence
    assert (tmp_path / "file").read_text() == "in the way"


def test_weights_of_another_model(refused, settings, tmp_path):
    torch.save({"conv9.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    sentence = refused(settings, "--weights_path", tmp_path / "other.pth", program=testing.main)
    assert "other.pth" in sentence
    assert "does not hold the weights of this network" in sentence


def test_weights_that_are_not_there(refused, settings, tmp_path):
    assert "nothing.pth" in refused(settings, "--weights_path", tmp_path / "nothing.pth", program=testing.main)
    assert "--weights_path" in refused(settings, program=testing.main)


@pytest.fixture(scope="module")
def trained(settings):
    run = settings.parent / "trained"
    assert call(arguments(settings, run, "--max_steps", 2, workers=0, SWA="false", ema_decay="null")) == 0
    return run


def test_weights_that_are_damaged_or_of_another_detector(refused, settings, trained, tmp_path):
    weights = (trained / "checkpoints/last.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(weights[: len(weights) // 2])
    (tmp_path / "code.pth").write_bytes(pickle.dumps(print))
    for name, word in (("cut.pth", "truncated"), ("code.pth", "may run code")):
        sentence = refused(settings, "--weights_path", tmp_path / name, program=testing.main)
        assert name in sentence
        assert word in sentence
    words = ["--weights_path", trained / "checkpoints/last.pth", "--set", "model_name=meso4Inception"]
    assert "does not hold the weights of this network" in refused(settings, *words, program=testing.main)


@pytest.mark.parametrize("what", ["nowhere.pth", "junk.pth", "other.pth", "meso4Inception"])
def test_a_resume_that_cannot_be_leaves_the_run_as_it_was(refused, settings, trained, tmp_path, what):
    (tmp_path / "junk.pth").write_bytes(b"junk")
    torch.save({"conv9.weight": torch.zeros(3)}, tmp_path / "other.pth")
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    if what == "meso4Inception":
        words = [settings, "--resume", trained / "checkpoints/last.pth", "--set", f"model_name={what}"]
        named = "last.pth"
    else:
        words, named = [settings, "--resume", tmp_path / what], what
    assert named in refused(*words)  # into a new directory, which does not come about
    # Into the run's own directory only what is the run's own may go on.
    assert (named if named == "last.pth" else "would overwrite") in refused(*words, log_dir=trained)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_runs_that_are_none(refused, capsys, tmp_path):
    (tmp_path / "bare").mkdir()
    for program in (testing.main, predict.main, report.main, curves.main, gradcam.main, calibration.main):
        for name in ("nowhere", "bare"):
            flag = ["--detector_path"] if program is testing.main else []
            words = [*flag, str(tmp_path / name)]
            if program is predict.main:
                words = ["clip.mp4", "--run", str(tmp_path / name)]
            assert call(words, program) == 2, program
            (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
            assert name in sentence
    assert not list((tmp_path / "bare").iterdir())


def test_devices_that_are_not_there(refused, settings, trained, capsys):
    words = ["--detector_path", str(settings), "--device", "tpu"]
    assert call(words) == 2
    assert "--device tpu" in capsys.readouterr().err
    assert call(["clip.mp4", "--run", str(trained), "--device", "tpu"], predict.main) == 2
    assert "--device tpu" in capsys.readouterr().err


def test_detectors_that_are_not_there(capsys):
    from training.detectors.__main__ import main

    assert call(["mesonet"], main) == 2
    assert "meso4" in capsys.readouterr().err


def test_a_program_of_its_own_ends_with_one_sentence_or_with_debug_a_traceback(settings):
    command = [sys.executable, str(ROOT / "training/train.py"), "--detector_path", str(settings), "--set", "nEpoch=3"]
    for debug in (False, True):
        done = subprocess.run([*command, *["--debug"] * debug], capture_output=True, text=True, env=environment())
        assert done.stdout == ""
        if debug:
            assert "Traceback" in done.stderr
        else:
            assert done.returncode == 2
            assert done.stderr == "error: --set nEpoch=3: unknown key `nEpoch`; did you mean `nEpochs`?\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's disk that is always full")
def test_a_full_disk_is_a_sentence_wherever_it_is_met(capsys):
    with pytest.raises(OSError, match="No space left"):  # what a library would raise
        Path("/dev/full").write_text("x")
    assert call([], lambda: Path("/dev/full").write_text("x")) == 2
    assert "No space left on device; free some space" in capsys.readouterr().err
    with pytest.raises(IsADirectoryError):  # a fault of ours is not taken for a full disk
        call([], lambda: ROOT.write_text("x"))


def test_help_costs_nothing():
    """`--help` of every program answers without the heavy libraries."""
    programs = ["training.train", "training.test", "prediction.predict", "preprocessing.preprocess"]
    programs += ["preprocessing.rearrange", "preprocessing.to_lmdb", "preprocessing.demo_data"]
    programs += ["preprocessing.demo_faces", "training.demo_tower"]
    programs += ["training.detectors.__main__", "benchmarks.__main__"]
    programs += [
        f"analysis.{name}" for name in ("report", "curves", "leaderboard", "robustness", "ablation", "gradcam", "tsne")
    ]
    programs += [f"analysis.{name}" for name in ("spectra", "calibration", "efficiency", "boundary", "reproduce")]
    code = (
        "import importlib, sys, io, contextlib\n"
        f"for name in {programs!r}:\n"
        "    sys.argv = [name, '--help']\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):\n"
        "        importlib.import_module(name).main()\n"
        "    assert 'usage' in out.getvalue(), name\n"
        "    heavy = {'torch', 'cv2', 'dlib', 'matplotlib', 'sklearn', 'open_clip', 'timm'} & set(sys.modules)\n"
        "    assert not heavy, (name, heavy)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
