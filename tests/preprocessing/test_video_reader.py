"""Frames by number, whatever the coding; files that are no videos."""

import io
import os
import struct
import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.drawn import draw_face, numbered, read_number, scene, write_sizes, write_video

from common.errors import ConfigError, DataError
from common.h264 import encoder_frame
from preprocessing.faces.tracking import track_faces
from preprocessing.video_reader import VideoReader, choose_frames


def test_even_spread_is_the_references():
    chosen = choose_frames(751, "fixed_num_frames", 32, 10)
    assert chosen[:7] == [0, 24, 48, 72, 96, 120, 145]
    assert chosen[-1] == 750
    assert len(chosen) == 32
    assert choose_frames(3, "fixed_num_frames", 32, 10) == [0, 1, 2]
    assert choose_frames(0, "fixed_num_frames", 32, 10) == []


def test_more_frames_than_there_are_cost_nothing():
    for wanted in (3, 4, 1_000_000_000, 10**30):
        assert choose_frames(3, "fixed_num_frames", wanted, 10) == [0, 1, 2]


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


ORIENTATIONS = {
    # display matrix (a, b, c, d): what a viewer shows of the stored picture
    (1, 0, 0, 1): lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, 3),
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, 1, 0): lambda p: p.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
}


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_phone_videos_are_turned_and_mirrored_upright(tmp_path, matrix):
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
    expected = ORIENTATIONS[matrix](picture)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 12
    if matrix[0] * matrix[3] - matrix[1] * matrix[2] > 0:  # OpenCV, another reader, knows turns only
        read, other = cv2.VideoCapture(str(path)).read()
        assert read
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


CONTAINERS = {
    "mkv": ("mpeg4", {}),
    "webm": ("libvpx", {}),
    "ts": ("mpeg2video", {}),
    "flv": ("flv", {}),
    "wmv": ("wmv2", {}),
    "mxf": ("mpeg2video", {}),
    "avi": ("mpeg4", {}),
    "mov": ("mpeg4", {"movflags": "+faststart"}),
    "mp4": ("mpeg4", {"movflags": "+frag_keyframe+empty_moov"}),
    "live.mkv": ("mpeg4", {"live": "1"}),
}


def contained(path: Path, codec: str, options: dict[str, str], count: int = 50) -> bytes:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        stream.options = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {}
        for number in range(count):
            picture = av.VideoFrame.from_ndarray(scene(160, 128, number), format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("ending", CONTAINERS)
def test_half_a_file_is_noticed_whatever_its_container(tmp_path, ending):
    path = tmp_path / f"v.{ending}"
    data = contained(path, *CONTAINERS[ending])
    with VideoReader(path) as video:
        assert video.frame_count == 50
        assert len(list(video.frames(range(50)))) == 50
        assert video.damage is None
    for share in (0.45, 0.7, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with VideoReader(path) as video:
            assert 10 < video.frame_count <= 50
            assert len(list(video.frames([0, 5]))) == 2
            assert video.damage, f"{share} of the file"


def test_a_film_that_ends_before_its_sound_is_whole(tmp_path):
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream, sound = container.add_stream("mpeg4", rate=25), container.add_stream("aac", rate=16000)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for number in range(50):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 16000, number * 1024
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with VideoReader(tmp_path / "v.mkv") as video:
        assert len(list(video.frames(range(10)))) == 10
        assert video.damage is None


def test_the_cover_of_a_sound_file_is_no_film(tmp_path):
    with wave.open(str(tmp_path / "s.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    cover = cv2.imencode(".jpg", scene(64, 64))[1].tobytes()
    mime = b"image/jpeg"
    picture = struct.pack(">II", 3, len(mime)) + mime + struct.pack(">I", 0)
    picture += struct.pack(">5I", 64, 64, 24, 0, len(cover)) + cover
    done = io.BytesIO()
    with av.open(str(tmp_path / "s.wav")) as sound, av.open(done, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=8000)
        for frame in sound.decode(audio=0):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = done.getvalue()
    # Behind the first block of the header comes another one, the picture.
    first = 8 + int.from_bytes(data[5:8], "big")
    block = bytes([6]) + len(picture).to_bytes(3, "big") + picture
    for name in ("song.flac", "song.mp4"):
        (tmp_path / name).write_bytes(data[:first] + block + data[first:])
        with pytest.raises(DataError, match=rf"{name} has no film: its picture is the cover of a sound file"):
            VideoReader(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["12:30.mp4", "pipe:0", "concat:a|b.mp4", "http:x.mp4", "%03d #?.mp4", "-i.mp4", b"\xff\xfe.mp4"]
)
def test_a_name_is_a_name_and_no_address(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(name)
    write_video(Path("v.mp4"), 3, numbered).rename(name)
    with VideoReader(name) as video:
        assert [read_number(image) for _, image in video.frames(range(3))] == [0, 1, 2]


LISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nv.ts\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile v.ts\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period></Period></MPD>',
    "ffmetadata": ";FFMETADATA1\ntitle=x\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_other_files_are_no_videos(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    contained(tmp_path / "v.ts", "mpeg2video", {}, 3)
    for name in (f"list.{kind}", "list.mp4"):
        Path(name).write_text(LISTS[kind])
        with pytest.raises(DataError, match=r"list.* cannot be opened as a video \(it is a text: a playlist"):
            VideoReader(name)


def test_frames_that_are_too_large_are_not_decoded(tmp_path):
    path = write_video(tmp_path / "v.mp4", 3, numbered)
    with VideoReader(path, max_pixels=96 * 48) as video:
        assert len(list(video.frames([0]))) == 1
    with pytest.raises(DataError, match=r"v.mp4 says it has 96x48 pixels.*max_pixels"):
        VideoReader(path, max_pixels=96 * 48 - 1)


def test_a_size_that_changes_inside_the_video(tmp_path):
    path = write_sizes(
        tmp_path / "v.mkv", [(96, 48), (192, 96)], 3, lambda number, width, height: scene(width, height, 1)
    )
    with VideoReader(path) as video:
        assert [image.shape[:2] for _, image in video.frames(range(6))] == [(48, 96)] * 3 + [(96, 192)] * 3
        assert video.damage is None
    with VideoReader(path, max_pixels=96 * 48) as video:
        assert len(list(video.frames(range(3)))) == 3
    with VideoReader(path, max_pixels=96 * 48) as video, pytest.raises(DataError, match="192x96"):
        list(video.frames(range(6)))


def test_a_face_is_followed_through_a_change_of_the_pictures_size(tmp_path, pipeline):
    def person(number: int, width: int, height: int) -> np.ndarray:
        image = scene(width, height, 1)
        draw_face(image, (0.5 * width, 0.5 * height), 0.4 * height)
        return image

    path = write_sizes(tmp_path / "v.mkv", [(320, 240), (640, 480), (320, 240)], 4, person)
    with VideoReader(path) as video:
        faces = list(track_faces(video.frames(range(12)), pipeline))
    assert [face.frame for face in faces] == list(range(12))
    sides = [face.box.side for face in faces]
    assert np.mean(sides[4:8]) / np.mean(sides[:4] + sides[8:]) == pytest.approx(2, rel=0.2)
