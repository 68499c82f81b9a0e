"""Frames by number, whatever the coding; files that are no videos."""

import struct
import wave
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.drawn import numbered, read_number, scene, write_video

from common.errors import ConfigError, DataError
from preprocessing.h264 import encoder_frame
from preprocessing.video_reader import VideoReader, choose_frames


def test_even_spread_is_the_references():
    chosen = choose_frames(751, "fixed_num_frames", 32, 10)
    assert chosen[:7] == [0, 24, 48, 72, 96, 120, 145]
    assert chosen[-1] == 750
    assert len(chosen) == 32
    assert choose_frames(3, "fixed_num_frames", 32, 10) == [0, 1, 2]
    assert choose_frames(0, "fixed_num_frames", 32, 10) == []


def test_stride():
    assert choose_frames(25, "fixed_stride", 32, 10) == [0, 10, 20]


@pytest.mark.parametrize(
    ("mode", "num", "stride"), [("random", 1, 1), ("fixed_stride", 1, 0), ("fixed_num_frames", 0, 1)]
)
def test_impossible_choices(mode, num, stride):
    with pytest.raises(ConfigError):
        choose_frames(10, mode, num, stride)


@pytest.mark.parametrize(("gop", "bframes"), [(12, 2), (250, 3), (1, 0), (6, 0)])
def test_each_frame_is_the_one_of_its_number(tmp_path, gop, bframes):
    path = write_video(tmp_path / "v.mp4", 60, numbered, gop=gop, bframes=bframes)
    rng = np.random.default_rng(gop)
    for count in (1, 5, 20, 60):
        wanted = sorted(rng.choice(60, count, replace=False).tolist())
        with VideoReader(path) as video:
            assert video.frame_count == 60
            frames = list(video.frames(wanted))
            assert video.damage is None
        assert [number for number, _ in frames] == wanted
        assert [read_number(image) for _, image in frames] == wanted


def test_open_groups_of_pictures(tmp_path):
    path = write_video(tmp_path / "v.mp4", 60, numbered, gop=10, bframes=3, x264="open-gop=1:b-adapt=0")
    for wanted in ([9], [8, 21], list(range(60))):
        with VideoReader(path) as video:
            assert [read_number(image) for _, image in video.frames(wanted)] == wanted


def test_variable_frame_rate(tmp_path):
    times = np.cumsum(1 + np.arange(40) % 5).tolist()
    path = write_video(tmp_path / "v.mp4", 40, numbered, times=times)
    with VideoReader(path) as video:
        assert video.frame_count == 40
        assert [read_number(image) for _, image in video.frames([0, 7, 13, 39])] == [0, 7, 13, 39]


def test_container_without_presentation_times(tmp_path):
    with av.open(str(tmp_path / "v.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        stream.options = {"bf": "2", "qscale": "2"}
        for number in range(30):
            container.mux(stream.encode(encoder_frame(numbered(number))))
        container.mux(stream.encode(None))
    with VideoReader(tmp_path / "v.avi") as video:
        got = [(number, read_number(image)) for number, image in video.frames([0, 11, 29])]
    assert got == [(0, 0), (11, 11), (29, 29)]


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_phone_videos_are_turned_upright(tmp_path, matrix, turns):
    picture = scene(96, 64, 1)
    picture[:32, :48] = (250, 30, 30)
    path = write_video(tmp_path / "v.mp4", 3, lambda number: picture)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the track's display matrix
    a, b, c, d = (value * 65536 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    with VideoReader(path) as video:
        image = next(iter(video.frames([0])))[1]
    expected = np.rot90(picture, turns)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 12
    read, other = cv2.VideoCapture(str(path)).read()
    assert read
    assert other.shape == image.shape
    assert np.abs(image.astype(int) - other[..., ::-1]).mean() < 12


def test_files_that_are_no_videos(tmp_path):
    empty, text, sound = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "sound.wav"
    empty.touch()
    text.write_text("<html>404 not found</html>" * 50)
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    truncated = write_video(tmp_path / "cut.mp4", 20, numbered)
    truncated.write_bytes(truncated.read_bytes()[:1500])
    for path, word in (
        (empty, "empty"),
        (text, "opened"),
        (sound, "no video track"),
        (truncated, "no video track|opened"),
    ):
        with pytest.raises(DataError, match=word) as caught:
            VideoReader(path)
        assert path.name in str(caught.value)
    with pytest.raises(DataError, match="no such video"):
        VideoReader(tmp_path / "none.mp4")
    with pytest.raises(DataError, match="it is a folder: name the files in it"):
        VideoReader(tmp_path)


def without_frames(path: Path) -> Path:
    """Write a well-formed file with a video track and no frame in it."""
    with av.open(str(path), "w", options={"movflags": "+empty_moov+frag_custom"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        container.start_encoding()
    return path


def test_a_track_without_frames(tmp_path):
    with pytest.raises(DataError, match="without a single frame"):
        VideoReader(without_frames(tmp_path / "zero.mp4"))


def test_damage_in_the_middle_is_reported_and_the_rest_is_read(tmp_path):
    path = write_video(tmp_path / "v.mp4", 60, lambda number: scene(160, 120, number), gop=10)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    middle = start + (len(data) - start) // 2
    data[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(data)
    wanted = list(range(0, 60, 3))
    with VideoReader(path) as video:
        got = [number for number, _ in video.frames(wanted)]
        damage = video.damage
    assert 0 in got
    assert got == sorted(set(got))
    assert len(got) == len(wanted) or damage
