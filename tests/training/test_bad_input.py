"""Bad input through the entry points: one sentence with the culprit and the remedy, exit code 2, nothing half-written."""

import json
import subprocess
import sys

import pytest
import torch
from helpers.pack import VIDEOS, write_pack
from helpers.training_runs import ROOT, arguments, call, write_settings

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
    """Write the settings anew with one change."""
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


def test_a_frame_that_is_not_there(tmp_path, capsys):
    settings = write_settings(tmp_path, write_pack(tmp_path))
    frame = next((tmp_path / "rgb").rglob("frames/071/000.png"))
    frame.unlink()
    assert call(arguments(settings, tmp_path / "run", workers=0, nEpochs=1)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "frames/071/000.png" in said[0]


def test_a_test_set_of_one_class(refused, settings, tmp_path):
    places = write_pack(tmp_path, name="OnlyFakes", videos={"FF-DF": VIDEOS["FF-DF"]})
    index = json.loads((tmp_path / "json/OnlyFakes.json").read_text())
    home = write_pack(tmp_path / "both")
    (tmp_path / "both/json/OnlyFakes.json").write_text(json.dumps(index))
    keys = {"dataset_json_folder": home["dataset_json_folder"], "rgb_dir": home["rgb_dir"]}
    sentence = refused(settings, "--test_dataset", "OnlyFakes", **keys)
    assert "OnlyFakes" in sentence
    assert "no real video" in sentence
    assert places["rgb_dir"]


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


def test_help_costs_nothing():
    """`--help` of every program answers without the heavy libraries."""
    programs = ["training.train", "training.test", "training.predict", "preprocessing.preprocess"]
    programs += ["preprocessing.rearrange", "preprocessing.to_lmdb", "preprocessing.demo_data"]
    programs += [f"analysis.{name}" for name in ("report", "leaderboard", "robustness", "ablation", "gradcam", "tsne")]
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
