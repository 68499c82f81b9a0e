"""Endings of videos and pictures, and folders with links in them."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.errors import DataError
from preprocessing.extraction import Settings
from preprocessing.layouts import find_layout
from preprocessing.layouts._base import check_links
from preprocessing.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_picture, is_video, some, walk
from preprocessing.run_preprocess import list_jobs


@pytest.mark.parametrize(
    "ending", ["mp4", "MOV", "wmv", "mpg", "MPEG", "flv", "ts", "3gp", "m4v", "webm", "Mkv", "avi", "vob"]
)
def test_what_the_decoder_reads_is_a_video_in_any_spelling(ending):
    assert is_video(f"a.b.{ending}")
    assert not is_picture(f"a.b.{ending}")


@pytest.mark.parametrize("ending", ["png", "JPG", "jpeg", "jfif", "Bmp", "webp", "tif", "TIFF", "gif", "avif"])
def test_what_the_decoder_reads_is_a_picture_in_any_spelling(ending):
    assert is_picture(f"a.b.{ending}")
    assert not is_video(f"a.b.{ending}")


def test_playlists_and_texts_are_neither():
    for name in ("a.m3u8", "a.m3u", "a.ffconcat", "a.mpd", "a.txt", "mp4", "a.mp4.part", "a.npy"):
        assert not is_video(name)
        assert not is_picture(name)
    assert not VIDEO_SUFFIXES & IMAGE_SUFFIXES


@pytest.mark.parametrize("ending", ["wmv", "mpg", "flv", "ts", "3gp", "webm"])
def test_such_videos_are_decoded(tmp_path, ending):
    import av

    from preprocessing.video_reader import VideoReader

    path = tmp_path / f"a.{ending}"
    codec = {
        "wmv": "msmpeg4v3",
        "mpg": "mpeg2video",
        "flv": "flv",
        "ts": "mpeg2video",
        "3gp": "mpeg4",
        "webm": "libvpx",
    }[ending]
    kind = {"wmv": "asf", "mpg": "mpeg", "ts": "mpegts"}.get(ending, ending)
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shade in range(30):  # a transport stream of three frames is too short to be told
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * shade, np.uint8), "rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert len(list(reader.frames(range(3)))) == 3


@pytest.mark.parametrize("ending", ["jpg", "bmp", "webp", "tif", "gif", "ppm"])
def test_such_pictures_are_decoded(tmp_path, ending):
    from preprocessing.extraction import open_frames

    path = tmp_path / f"a.{ending}"
    path.write_bytes(cv2.imencode(f".{ending}", np.full((12, 16, 3), 100, np.uint8))[1].tobytes())
    with open_frames(path) as reader:
        assert [image.shape for _, image in reader.frames([0])] == [(12, 16, 3)]


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def walked(top: Path) -> list[str]:
    return [(visit.path / name).as_posix() for visit in walk(top) for name in visit.files]


def test_each_real_folder_is_visited_once(tmp_path):
    touch(tmp_path, "in/b/x.mp4", "in/c/y.mp4", "out/z.mp4", "in/.hidden/h.mp4", "in/Thumbs.db")
    (tmp_path / "in/again").symlink_to(".")
    (tmp_path / "in/up").symlink_to("..")
    (tmp_path / "in/a").symlink_to("c")  # sorts before what it leads to
    (tmp_path / "in/b/round").symlink_to("../c")
    (tmp_path / "in/self").symlink_to("self")
    (tmp_path / "in/out1").symlink_to("../out")
    (tmp_path / "in/out2").symlink_to("../out")
    (tmp_path / "out/back").symlink_to("../in")
    assert walked(tmp_path / "in") == ["self", "b/x.mp4", "c/y.mp4", "out1/z.mp4"]
    assert walked(tmp_path / "nowhere") == []


def test_a_link_does_not_multiply_a_datasets_videos(tmp_path):
    touch(tmp_path, "real/a.mp4", "real/b.mp4", "fake/c.mp4")
    (tmp_path / "real/again").symlink_to(".")
    (tmp_path / "real/up").symlink_to("..")
    rules = find_layout("Mine", "custom")
    real, fake = rules.groups(tmp_path, "Mine")
    check_links(tmp_path, [real, fake])
    assert [video.path for video in rules.sources(tmp_path, real)] == ["real/a.mp4", "real/b.mp4"]


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("real/more", "../fake"),
        ("real/more", "../fake/deeper"),
        ("train/real/more", "../../val/real"),
        ("train/real/more", "../../val"),
        ("test/real", "../train/real"),
    ],
)
def test_a_link_from_one_class_or_split_to_another_is_refused(tmp_path, link, target):
    folders = ("real", "fake/deeper", "train/real", "val/real", "test/fake")
    touch(tmp_path, *(f"{folder}/{n}.mp4" for n, folder in enumerate(folders)))
    rules = find_layout("Mine", "custom")
    check_links(tmp_path, rules.groups(tmp_path, "Mine"))
    (tmp_path / link).symlink_to(target)
    with pytest.raises(DataError, match=rf"{link} is a link to videos of .*, which would count twice"):
        check_links(tmp_path, rules.groups(tmp_path, "Mine"))


def test_what_preprocessing_leaves_out_is_counted_and_named(tmp_path, capsys):
    names = ("a.mp4", "b.WMV", "c.gif", "d.m3u8", "e.txt", "f.heic", "g", "Thumbs.db", ".DS_Store")
    touch(tmp_path, *(f"real/{name}" for name in names), "real/frames/a/notes.txt", "fake/x.3GP")
    rules = find_layout("Mine", "custom")
    jobs = list_jobs(rules, tmp_path, rules.groups(tmp_path, "Mine"), tmp_path, Settings())
    assert [job.key for job in jobs] == ["real/a.mp4", "real/b.WMV", "real/c.gif", "fake/x.3GP"]
    said = capsys.readouterr().out
    assert "left out 4 files, as their endings or a list tell: real/d.m3u8, real/e.txt, real/f.heic and 1 more" in said
    (tmp_path / "index.csv").write_text("path,label\nreal/a.mp4,real\n")
    list_jobs(rules, tmp_path, rules.groups(tmp_path, "Mine"), tmp_path, Settings())
    assert "real: left out 6 files" in capsys.readouterr().out


def test_the_annotations_beside_the_videos_are_not_left_out(tmp_path):
    touch(tmp_path, "test/a.mp4", "test/labels.csv", "test/a.jpg", "test/manifest.jsonl")
    rules = find_layout("DFDC")
    assert rules.left_out(tmp_path, rules.groups(tmp_path, "DFDC")[0]) == ["test/a.jpg"]


def test_some_names():
    assert some(["a", "b"]) == "a, b"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
