"""Frames of any ending, with or without `frames/`, in the index and in the database; and what is left out of them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.errors import DataError
from preprocessing import lmdb_pack
from preprocessing.frame_folders import find_frames
from preprocessing.layouts import Group, find_layout
from preprocessing.run_rearrange import rearrange
from training.dataset.storage import FileStorage, LmdbStorage


def plant(root: Path, *paths: str) -> Path:
    """Make a picture of its own at each path, in the form that the ending says; text where it is no picture."""
    for number, path in enumerate(paths):
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        form = {".jfif": ".jpg"}.get(place.suffix.lower(), place.suffix.lower())
        try:
            data = cv2.imencode(form, np.full((16, 16, 3), 40 + 7 * number, np.uint8))[1].tobytes()
        except cv2.error:
            data = b"text"
        place.write_bytes(data)
    return root


def indexed(root: Path, dataset: str = "Mine", layout: str | None = "custom") -> dict[str, list[str]]:
    """Return video → frames, of the index that is made."""
    index = rearrange(dataset, str(root), str(root / "json"), layout=layout).indexes[dataset][dataset]
    return {
        name: entry["frames"] for label in index.values() for videos in label.values() for name, entry in videos.items()
    }


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "jfif", "bmp", "webp", "tif", "gif"])
def test_frames_of_every_ending_are_indexed_and_packed(tmp_path, ending):
    files = [f"Mine/{kind}/frames/v/00{number}.{ending}" for kind in ("real", "fake") for number in (0, 1)]
    plant(tmp_path, *files)
    index = rearrange("Mine", str(tmp_path), str(tmp_path / "json"), layout="custom").indexes["Mine"]["Mine"]
    assert [path for label in index.values() for path in label["test"]["v"]["frames"]] == files
    place = lmdb_pack.to_lmdb("Mine", str(tmp_path), str(tmp_path / "lmdb"), layout="custom", verify="all")
    for path in files:
        np.testing.assert_array_equal(LmdbStorage(place).read_image(path), FileStorage(tmp_path).read_image(path))


def test_endings_may_be_mixed_and_each_frame_counts_once(tmp_path, capsys):
    plant(tmp_path, "Mine/real/frames/a/000.png", "Mine/real/frames/b/000.jpg", "Mine/real/frames/c/1000.jpg")
    plant(tmp_path, "Mine/real/frames/c/999.png", "Mine/real/frames/c/98.jpeg", "Mine/real/frames/c/98.png")
    plant(tmp_path, "Mine/real/frames/c/notes.txt", "Mine/real/frames/loose.png", "Mine/real/frames/Thumbs.db")
    (tmp_path / "Mine/real/frames/empty").mkdir()
    found = indexed(tmp_path)
    assert {name: [Path(path).name for path in frames] for name, frames in found.items()} == {
        "a": ["000.png"],
        "b": ["000.jpg"],
        "c": ["98.png", "999.png", "1000.jpg"],
    }
    printed = capsys.readouterr().out
    for said in (
        "left out: 1 (is a second picture of a frame): real/frames/c/98.jpeg",
        "left out: 1 (is no picture by its ending): real/frames/c/notes.txt",
        "left out: 1 (lies in no folder of a video): real/frames/loose.png",
        "left out: 1 (holds no frames): real/frames/empty",
    ):
        assert said in printed
    lmdb_pack.to_lmdb("Mine", str(tmp_path), str(tmp_path / "lmdb"), layout="custom")
    printed = capsys.readouterr().out
    assert "left out: 1 files or folders (is a second picture of a frame): real/frames/c/98.jpeg" in printed
    assert "verified: 5 keys" in printed


def test_many_of_a_kind_are_counted_and_the_first_named(tmp_path, capsys):
    plant(tmp_path, "Mine/real/frames/a/000.png", *(f"Mine/real/frames/a/{n:02d}.heic" for n in range(30)))
    indexed(tmp_path)
    assert (
        "left out: 30 (is no picture by its ending): real/frames/a/00.heic, real/frames/a/01.heic"
        in capsys.readouterr().out
    )


def test_aligned_faces_need_no_frames_folder(tmp_path, capsys):
    plant(tmp_path, "Mine/real/a/000.png", "Mine/real/who/b/000.jpg", "Mine/fake/c/000.webp", "Mine/fake/c/001.webp")
    assert indexed(tmp_path) == {
        "a": ["Mine/real/a/000.png"],
        "b": ["Mine/real/who/b/000.jpg"],
        "c": ["Mine/fake/c/000.webp", "Mine/fake/c/001.webp"],
    }
    assert "real has no frames/; its 2 folders of pictures are taken for aligned faces" in capsys.readouterr().out
    place = lmdb_pack.to_lmdb("Mine", str(tmp_path), str(tmp_path / "lmdb"), layout="custom", verify="all")
    assert LmdbStorage(place).read_image("Mine/fake/c/001.webp").shape == (16, 16, 3)


def test_aligned_faces_of_a_published_dataset(tmp_path):
    base = "FaceForensics++/original_sequences/youtube/c23"
    plant(tmp_path, f"{base}/071/000.png", f"{base}/054/000.jpg")
    for split, pairs in (("train", [["071", "054"]]), ("val", []), ("test", [])):
        (tmp_path / f"FaceForensics++/{split}.json").write_text(json.dumps(pairs))
    index = rearrange("FaceForensics++", str(tmp_path), str(tmp_path / "json")).indexes["FaceForensics++"]
    assert set(index["FaceForensics++"]["FF-real"]["train"]["c23"]) == {"071", "054"}


@pytest.mark.parametrize("beside", ["real/a.mp4", "real/loose.jpg", "manifest.jsonl"])
def test_what_waits_for_preprocessing_is_not_taken_for_aligned_faces(tmp_path, beside):
    plant(tmp_path, f"Mine/{beside}")
    if beside != "real/loose.jpg":
        plant(tmp_path, "Mine/real/thumbnails/000.jpg")
    assert find_frames(tmp_path / "Mine", Group("real", "Mine_real", images=True)).missing
    with pytest.raises(DataError, match=r"run preprocess\.py first"):
        indexed(tmp_path)


def test_a_link_among_the_frames_counts_no_video_twice(tmp_path):
    plant(tmp_path, "Mine/real/frames/b/000.png", "Mine/real/frames/c/000.png")
    (tmp_path / "Mine/real/frames/a").symlink_to("b")
    (tmp_path / "Mine/real/frames/all").symlink_to(".")
    assert set(indexed(tmp_path)) == {"b", "c"}


def test_a_link_to_another_groups_frames_counts_no_video_twice(tmp_path, capsys):
    plant(
        tmp_path, "Mine/train/real/frames/a/000.png", "Mine/val/real/frames/b/000.png", "Mine/val/fake/frames/c/000.png"
    )
    (tmp_path / "Mine/val/real/frames/a").symlink_to("../../../train/real/frames/a")
    assert set(indexed(tmp_path)) == {"a", "b", "c"}
    assert "left out: 1 (is a link to a video that counts already): val/real/frames/a" in capsys.readouterr().out
    (tmp_path / "Mine/val/fake/frames/a").symlink_to("../../../train/real/frames/a")
    with pytest.raises(DataError, match=r"val/fake/frames/a and .*train/real/frames/a are one folder \(a link\)"):
        indexed(tmp_path)


def test_folders_with_videos_of_one_name_keep_all(tmp_path):
    paths = [f"Mine/train/{kind}/frames/v/000.png" for kind in ("REAL", "Real", "real")]
    paths.append("Mine/train/REAL/frames/train_Real_v/000.png")  # what the second would be called
    found = indexed(plant(tmp_path, *paths))
    assert sorted(frames[0] for frames in found.values()) == sorted(paths)


def test_masks_of_any_ending_are_indexed_and_packed(tmp_path):
    plant(
        tmp_path,
        "Mine/fake/frames/v/000.png",
        "Mine/fake/masks/v/000.bmp",
        "Mine/masks/v.png",
        "Mine/fake/landmarks/v/0.csv",
    )
    index = rearrange("Mine", str(tmp_path), str(tmp_path / "json"), layout="custom").indexes["Mine"]["Mine"]
    assert index["Mine_fake"]["test"]["v"]["masks"] == ["Mine/fake/masks/v/000.bmp"]
    products = lmdb_pack.product_files(tmp_path / "Mine", find_layout("x", "custom").groups(tmp_path / "Mine", "Mine"))
    assert products.paths == ["fake/frames/v/000.png", "fake/masks/v/000.bmp"]
    assert products.left_out == ["1 files or folders (no landmarks by the ending): fake/landmarks/v/0.csv"]


def test_a_picture_turned_by_its_header_is_packed_as_it_is_seen(tmp_path):
    path = "Mine/real/frames/v/000.jpg"
    plant(tmp_path, path)
    turn = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    data = cv2.imencode(".jpg", np.arange(24 * 16 * 3, dtype=np.uint8).reshape(24, 16, 3))[1].tobytes()
    (tmp_path / path).write_bytes(data[:2] + b"\xff\xe1" + (len(turn) + 2).to_bytes(2, "big") + turn + data[2:])
    place = lmdb_pack.to_lmdb(
        "Mine", str(tmp_path), str(tmp_path / "lmdb"), layout="custom", codec="webp", verify="all"
    )
    assert LmdbStorage(place).read_image(path).shape == FileStorage(tmp_path).read_image(path).shape == (16, 24, 3)
