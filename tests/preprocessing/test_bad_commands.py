"""Bad input through the preprocessing commands: one sentence with the culprit and the remedy, exit code 2, nothing written."""

import json

import pytest
from helpers.pack import write_pack
from helpers.training_runs import call

from preprocessing import demo_data, preprocess, rearrange, to_lmdb

MINE = ["--dataset_name", "Mine", "--layout", "custom"]
FF = ["--dataset_name", "FaceForensics++"]


@pytest.fixture
def place(tmp_path):
    """A folder with a dataset of two damaged videos, a preprocessed dataset without its splits, and a file in the way."""
    for kind in ("real", "fake"):
        (tmp_path / "data/Mine" / kind).mkdir(parents=True)
        (tmp_path / "data/Mine" / kind / "a.mp4").write_bytes(b"no video")
    (tmp_path / "data/Mine/real/frames/a").mkdir(parents=True)
    write_pack(tmp_path, frames=1)
    (tmp_path / "file").write_text("in the way")
    return tmp_path


@pytest.fixture
def refused(place, capsys):
    """Return a function that calls a program, checks how it refuses, and returns the sentence."""

    def call_it(program, *words) -> str:
        before = sorted(place.rglob("*"))
        assert call([str(word) for word in words], program.main) == 2
        said = capsys.readouterr()
        (sentence,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in said.err
        assert sorted(place.rglob("*")) == before, "a refused command leaves nothing behind"
        return sentence

    return call_it


@pytest.mark.parametrize("program", [preprocess, rearrange, to_lmdb])
def test_a_dataset_that_is_not_there(refused, place, program):
    sentence = refused(program, *FF, "--dataset_root_path", place / "nowhere")
    assert "dataset_root_path" in sentence
    assert "nowhere" in sentence
    assert "neither contains" in refused(program, *FF, "--dataset_root_path", place / "json")
    assert "--layout" in refused(program, "--dataset_name", "Unheard", "--dataset_root_path", place)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--num_frames", "0"], "num_frames"),
        (["--mode", "random"], "fixed_stride"),
        (["--workers", "-1"], "--workers -1"),
        (["--shard", "3/2"], "1/8"),
        (["--detector", "eyes"], "hog"),
        (["--predictor", "none.dat"], "none.dat"),
        (["--config", "none.yaml"], "none.yaml"),
    ],
)
def test_options_that_cannot_be(refused, place, words, named):
    assert named in refused(preprocess, *MINE, "--dataset_root_path", place / "data", *words)


def test_a_predictor_that_is_none_is_said_before_the_first_video(refused, place):
    words = [*MINE, "--dataset_root_path", place / "data", "--workers", "0", "--predictor", place / "file"]
    sentence = refused(preprocess, *words)
    assert "file is not a dlib shape predictor" in sentence


@pytest.mark.parametrize(
    ("line", "named"),
    [("num_frames: many", "whole number"), ("num_frames: [8]", "whole number"), ("comp: [c23]", "one word")],
)
def test_wrong_types_in_the_settings_name_file_line_and_key(refused, place, line, named):
    settings = place / "own.yaml"
    settings.write_text(f"preprocess:\n  {line}\n")
    sentence = refused(preprocess, *MINE, "--dataset_root_path", place / "data", "--config", settings)
    assert "own.yaml:2" in sentence
    assert line.split(":")[0] in sentence
    assert named in sentence


def test_an_unknown_key_in_the_settings(refused, place):
    (place / "own.yaml").write_text("rearrange:\n  dataset: Mine\n")
    sentence = refused(rearrange, *MINE, "--config", place / "own.yaml")
    assert "rearrange.dataset" in sentence
    assert "dataset_name" in sentence


def test_folders_that_cannot_be_written(refused, place):
    below = place / "file" / "below"
    data, rgb = ["--dataset_root_path", place / "data"], ["--dataset_root_path", place / "rgb"]
    sentences = {
        "--output": refused(preprocess, *MINE, *data, "--output", below, "--workers", "0"),
        "--output_lmdb_dir": refused(to_lmdb, *FF, *rgb, "--output_lmdb_dir", below),
    }
    sentences["--output "] = refused(demo_data, "--quick", "--workers", "1", "--output", below)
    for flag, sentence in sentences.items():
        assert flag.strip() in sentence
        assert "file/below" in sentence
    pairs = {"train": [["071", "054"], ["100", "101"]], "val": [["720", "672"]], "test": [["953", "974"]]}
    for split, people in pairs.items():
        (place / f"rgb/FaceForensics++/{split}.json").write_text(json.dumps(people))
    assert "file/below" in refused(rearrange, *FF, *rgb, "--output_file_path", below)


def test_split_files_and_tables_that_are_missing_or_damaged(refused, place):
    words = ["--dataset_root_path", place / "rgb", "--output_file_path", place / "index"]
    assert "train.json is missing" in refused(rearrange, *FF, *words)
    (place / "rgb/FaceForensics++/train.json").write_text(json.dumps([["071", "054"]])[:-3])
    assert "train.json is not valid JSON" in refused(rearrange, *FF, *words)
    own = [*MINE, "--dataset_root_path", place / "data", "--output_file_path", place / "index"]
    table = place / "data/Mine/index.csv"
    for content, named in ((b"path label\n", "lacks the column"), (b"\xff\xfe\x00", "UTF-8")):
        table.write_bytes(content)
        sentence = refused(rearrange, *own)
        assert "index.csv" in sentence
        assert named in sentence
    table.write_text("path,label\nreal/a.mp4,perhaps\n")
    assert "line 2: the label `perhaps`" in refused(rearrange, *own)


def test_a_damaged_frame_is_not_packed(place, capsys):
    frame = next((place / "rgb").rglob("frames/071/000.png"))
    frame.write_bytes(frame.read_bytes()[:60])
    words = [*FF, "--dataset_root_path", place / "rgb", "--output_lmdb_dir", place / "lmdb"]
    assert call([str(word) for word in words], to_lmdb.main) == 2
    assert "frames/071/000.png is not a readable image" in capsys.readouterr().err


def test_damaged_videos_are_named_and_the_others_go_on(place, capsys):
    words = [*MINE, "--dataset_root_path", place / "data", "--output", place / "out", "--workers", "0"]
    assert call([str(word) for word in words], preprocess.main) == 1
    said = capsys.readouterr()
    assert "real/a.mp4" in said.err
    assert "fake/a.mp4" in said.err
    assert "2 failed" in said.out


@pytest.mark.parametrize("flag", ["--seed", "--workers"])
def test_demo_data_of_less_than_nothing(refused, place, flag):
    assert f"{flag} -1" in refused(demo_data, "--quick", flag, "-1", "--output", place / "demo")
