"""One video is one video: however many groups name it, under whatever dataset name, and in whatever split."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from common.datasets import same_video_key
from common.errors import DataError
from training.config.schema import Config
from training.dataset.index.selection import load_index
from training.dataset.loader import build_loader
from training.session import training_loaders
from training.trainer.distributed import Process

LABELS = {
    **dict.fromkeys(("R", "FF-real", "CelebDFv1_real", "CelebDFv2_real", "roop_Real"), 0),
    **dict.fromkeys(("F", "G", "FF-DF", "FF-NT", "CelebDFv1_fake", "CelebDFv2_fake", "roop_Fake"), 1),
}


def config(folder: Path, **keys) -> Config:
    base = {
        "model_name": "any",
        "label_dict": LABELS,
        "dataset_json_folder": str(folder),
        "rgb_dir": str(folder / "rgb"),
    }
    return Config.model_validate({**base, "workers": 0, "train_batchSize": 2, **keys})


def write(folder: Path, dataset: str, content) -> None:
    text = content if isinstance(content, str) else json.dumps({dataset: content})
    (folder / f"{dataset}.json").write_text(text)


def entry(place: str, label: str | None = None, frames=(0, 1), **more) -> dict:
    return {"frames": [f"{place}/{n:03d}.png" for n in frames], **({"label": label} if label else {}), **more}


def loaded(folder: Path, dataset="X", split="train", **keys):
    return load_index(config(folder, **keys), [dataset] if isinstance(dataset, str) else dataset, split)


# --- within one index --------------------------------------------------------------------------------------------------


def test_one_folder_named_by_several_groups_is_one_video(tmp_path, caplog):
    one = entry("X/frames/001_002", "F")
    again = entry("./datasets/X/frames/001_002", "F")
    write(
        tmp_path, "X", {"A": {"train": {"001_002": one}}, "B": {"train": {"001_002": again}, "val": {"001_002": one}}}
    )
    index = loaded(tmp_path)
    assert index.video_ids() == ["X/F/001_002"]
    assert index.frames.tolist() == [2]
    assert index.info.counts == {"real": 0, "fake": 2, "videos_real": 0, "videos_fake": 1}
    assert "1 of 2 videos name the frames of another one" in caplog.text
    assert len(loaded(tmp_path, split="val")) == 1


def test_different_folders_are_different_videos_with_different_ids(tmp_path):
    groups = {g: {"train": {"001_002": entry(f"X/{g}/frames/001_002", "F")}} for g in "AB"}
    write(tmp_path, "X", {**groups, "R": {"train": {"001": entry("X/r/frames/001", "R")}}})
    index = loaded(tmp_path)
    assert index.video_ids() == ["X/F/A/001_002", "X/F/B/001_002", "X/R/001"]
    assert [index.frame(i, 0)[0] for i in range(2)] == [f"X/{g}/frames/001_002/000.png" for g in "AB"]


def test_entries_that_share_frames_are_united_with_their_masks(tmp_path):
    first = entry("X/frames/v", "F", (0, 2))
    second = entry("X/frames/v", "F", (2, 5, 1), masks=["X/masks/v/002.png"])
    write(tmp_path, "X", {"A": {"train": {"v": first}}, "B": {"train": {"w": second}}})
    index = loaded(tmp_path)
    assert index.video_ids() == ["X/F/v"]
    assert [index.frame(0, i)[1] for i in range(index.frames[0])] == [0, 1, 2, 5]
    assert [index.lists_mask(0, i) for i in range(4)] == [False, False, True, False]


def test_a_flat_folder_holds_many_videos(tmp_path):
    flat = {f"v{i}": {"frames": [f"X/frames/v{i}_{n}.png" for n in range(2)]} for i in range(3)}
    write(tmp_path, "X", {"F": {"train": flat, "val": {"v3": {"frames": ["X/frames/v3_0.png"]}}}})
    index = loaded(tmp_path)
    assert index.video_ids() == ["X/F/v0", "X/F/v1", "X/F/v2"]
    assert not loaded(tmp_path, split="val").shared_with(index).any()


@pytest.mark.parametrize("apart", [False, True])
def test_one_folder_called_real_and_fake_is_an_error(tmp_path, apart):
    real, fake = {"R": {"train": {"v": entry("X/frames/v")}}}, {"F": {"train": {"w": entry("X/frames/v")}}}
    write(tmp_path, "X", real if apart else {**real, **fake})
    write(tmp_path, "Y", fake)
    with pytest.raises(DataError, match=r"X/frames/v/000\.png .*real by X/R/v .*fake by [XY]/F/w"):
        loaded(tmp_path, ["X", "Y"] if apart else "X")


VIDEO = '{"frames": ["X/frames/v/0.png"]}'
OTHER = '{"frames": ["X/frames/v/1.png"]}'


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ('{"X": {"F": {"train": {"v": %s, "v": %s}}}}', "X/F/train/v"),
        ('{"X": {"F": {"train": {"v": %s}}, "F": {"train": {"v": %s}}}}', "X/F"),
        ('{"X": {"F": {"train": {"c23": {"v": %s}, "c23": {"v": %s}}}}}', "X/F/train/c23"),
        ('{"X": {"F": {"train": {"v": {"frames": ["a/0.png"], "x": [%s], "x": [%s]}}}}}', "x"),
        ('{"X": {"F": {"train": {"v": %s}}}, "X": {"F": {"train": {"v": %s}}}}', "X"),
    ],
)
def test_a_key_that_stands_twice(tmp_path, content, key):
    write(tmp_path, "X", content % (VIDEO, VIDEO))
    assert len(loaded(tmp_path)) == 1
    write(tmp_path, "X", content % (VIDEO, OTHER))
    with pytest.raises(DataError, match=rf"X\.json: the key `{key}` stands twice"):
        loaded(tmp_path)


# --- between indexes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("Celeb-DF-v1", "CelebDFv1_real", 0, "id0_0001"), ("Celeb-DF-v2", "CelebDFv2_real", 0, "id0_0001"), True),
        (("Celeb-DF-v1", "CelebDFv1_fake", 1, "id0_id1_01"), ("Celeb-DF-v2", "CelebDFv2_fake", 1, "id0_id1_01"), True),
        (("simswap_cdf", "roop_Real", 0, "id0_0001"), ("Celeb-DF-v2", "CelebDFv2_real", 0, "id0_0001"), True),
        (("simswap_ff", "simswap_Real", 0, "000"), ("FaceForensics++_c40", "FF-real", 0, "000"), True),
        (("simswap_ff", "roop_Fake", 1, "000_003"), ("fsgan_ff", "roop_Fake", 1, "000_003"), False),
        (("FF-DF", "FF-DF", 1, "000_003"), ("FaceForensics++", "FF-DF", 1, "000_003"), True),
        (("FF-DF", "FF-DF", 1, "000_003"), ("FaceForensics++", "FF-NT", 1, "000_003"), False),
        (("FaceShifter", "FF-real", 0, "000"), ("FaceForensics++", "FF-real", 0, "000"), True),
        (("MineA", "R", 0, "000"), ("MineB", "R", 0, "000"), False),
    ],
)
def test_one_video_under_two_dataset_names_has_one_key(one, other, same):
    assert (same_video_key(*one) == same_video_key(*other)) is same


def test_the_same_files_are_found_under_any_name(tmp_path):
    write(tmp_path, "X", {"R": {"train": {"a": entry("X/frames/a"), "b": entry("X/frames/b")}}})
    write(tmp_path, "Y", {"R": {"test": {"other": entry("datasets/X/frames/b"), "c": entry("X/frames/c")}}})
    train, test = loaded(tmp_path), loaded(tmp_path, "Y", "test")
    assert test.shared_with(train).tolist() == [True, False]
    assert test.videos_overlapping(train) == ["Y/R/other"]
    (tmp_path / "rgb/X/frames/b").mkdir(parents=True)
    (tmp_path / "rgb/Z").symlink_to("X")
    write(tmp_path, "Z", {"R": {"test": {"linked": entry("Z/frames/b")}}})
    assert loaded(tmp_path, "Z", "test").shared_with(train).tolist() == [True]


def test_within_a_dataset_one_name_in_two_folders_is_two_videos(tmp_path):
    write(tmp_path, "X", {"R": {s: {"camera_up": entry(f"X/{s}/frames/camera_up")} for s in ("train", "val")}})
    assert not loaded(tmp_path, split="val").shared_with(loaded(tmp_path)).any()


def test_people_of_one_video_are_one_video(tmp_path):
    """Trained on the second person, tested on the first: in one dataset, and under another's name with other files."""
    splits = {"train": ("a_person2", "b"), "val": ("a", "c", "b_person3"), "test": ("a", "a_person2", "d_person2")}
    write(tmp_path, "X", {"R": {s: {v: entry(f"X/frames/{v}") for v in videos} for s, videos in splits.items()}})
    train, val, test = (loaded(tmp_path, split=split) for split in splits)
    assert {val.name(i): bool(known) for i, known in enumerate(val.shared_with(train))} == {
        "a": True,
        "c": False,
        "b_person3": True,
    }
    assert {test.name(i): bool(known) for i, known in enumerate(test.shared_with(val))}["a_person2"]
    assert test.further_people() == {"X/R/a_person2": "X/R/a"}, "without the first there is no other"


# --- in training -------------------------------------------------------------------------------------------------------

ALONE = Process(0, 1, torch.device("cpu"))


def three_splits(names: dict[str, list[str]], prefix="X") -> dict:
    both = {"R": "r", "F": "f"}
    return {
        label: {s: {f"{v}{k}": entry(f"{prefix}/{k}/frames/{v}") for v in videos} for s, videos in names.items()}
        for label, k in both.items()
    }


def test_trained_and_tested_videos_are_left_out_of_validation_and_counted(tmp_path, caplog):
    write(tmp_path, "X", three_splits({"train": ["1", "2"], "val": ["2", "3", "4"], "test": ["4"]}))
    settings = config(tmp_path, train_dataset=["X"], test_dataset=["X"])
    _, val, note = training_loaders(settings, ALONE)
    assert val.index.video_ids() == ["X/R/3r", "X/F/3f"]
    assert "4 of 6 validation videos are trained on or stand in a test set" in note
    assert "2 of 4 val videos are trained on too and are left out" in caplog.text
    assert "2 of 6 val videos are in the test set X too" in caplog.text
    assert build_loader(settings, "val").index.video_ids() == ["X/R/3r", "X/R/4r", "X/F/3f", "X/F/4f"]


def test_a_validation_split_that_is_the_training_split_is_none(tmp_path):
    write(tmp_path, "X", three_splits({split: ["1", "2"] for split in ("train", "val", "test")}))
    train, val, note = training_loaders(config(tmp_path, train_dataset=["X"]), ALONE)
    assert val is None
    assert len(train.index) == 4
    assert "none is left; the last checkpoint is the result" in note


def test_tested_videos_that_were_trained_on_are_named(tmp_path, caplog):
    real, fake = "CelebDF{}_real", "CelebDF{}_fake"
    for v in ("v1", "v2"):
        content = {
            label.format(v): {
                "train": {name: entry(f"C{v}/frames/{name}")},
                "test": {name: entry(f"C{v}/frames/{name}")},
            }
            for label, name in ((real, "id0_0001"), (fake, "id0_id1_0001"))
        }
        write(tmp_path, f"Celeb-DF-{v}", content)
    settings = config(tmp_path, train_dataset=["gone", "Celeb-DF-v1"])
    build_loader(settings, "test", "Celeb-DF-v2")
    assert "2 of 2 test videos of Celeb-DF-v2 were trained on, first Celeb-DF-v2/CelebDFv2_real/id0_0001" in caplog.text


def test_many_entries_of_one_flat_folder_take_no_quadratic_time(tmp_path):
    videos = {f"v{i}": {"frames": [f"X/frames/{i}.png"]} for i in range(3000)}
    write(tmp_path, "X", {"R": {"train": videos}})
    index = loaded(tmp_path)
    assert len(index) == 3000
    assert np.array_equal(index.shared_with(index), np.ones(3000, bool))
