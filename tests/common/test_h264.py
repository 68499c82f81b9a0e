"""The same pictures give the same bits: no conversion is left to the encoder, and one thread encodes."""

import hashlib
import io
import subprocess
import sys

import av
import numpy as np
import pytest
from helpers import drawn

from common.h264 import encode, encoder_frame, rgb_to_yuv420
from preprocessing.demo.video import write_masks, write_video
from training.dataset.perturbations import perturb


@pytest.fixture(scope="module")
def pictures():
    return np.stack([drawn.scene(96, 64, number) for number in range(3)])


def coded(pictures, **options):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        encode(container, pictures, 10, options or {"crf": "20", "preset": "veryfast"})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((255, 255, 255), (235, 128, 128)), ((0, 0, 0), (16, 128, 128)), ((255, 0, 0), (81, 90, 240)),
     ((0, 255, 0), (145, 54, 34)), ((0, 0, 255), (41, 240, 110)), ((120, 120, 120), (119, 128, 128))],
)  # fmt: skip
def test_colours_are_those_of_bt_601(colour, expected):
    planes = rgb_to_yuv420(np.full((4, 6, 3), colour, np.uint8))
    assert planes.shape == (6, 6)
    found = planes.ravel()[[0, 24, 30]]
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert all((plane == plane[0]).all() for plane in np.split(planes.ravel(), [24, 30]))


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 1)])
def test_colour_of_two_by_two_pixels_is_their_mean(place):
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[place] = (255, 0, 0)
    planes = rgb_to_yuv420(picture)
    assert planes[place] == 81
    assert planes[:2].sum() == 81 + 3 * 16
    assert tuple(planes[2]) == (128 - 9, 128 + 28), "a quarter of red's (90, 240)"


def test_pictures_survive(pictures):
    with av.open(io.BytesIO(coded(pictures, crf="1"))) as container:
        decoded = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert np.abs(np.stack(decoded) - pictures).mean() < 3
    grey = pictures[..., 0]
    with av.open(io.BytesIO(coded(grey, qp="0"))) as container:
        luma = [frame.to_ndarray()[:64] for frame in container.decode(video=0)]  # decoders add planes of no colour
    assert np.array_equal(luma, grey)


def test_forty_repeats_give_one_file(pictures):
    held, digests = [], set()
    for number in range(40):
        held.append(np.empty(1000 + 7777 * number, np.uint8))  # so that buffers lie at other places of memory
        digests.add(hashlib.sha256(coded(pictures)).digest())
    assert len(digests) == 1


_AGAIN = """
import hashlib, sys, numpy as np
from helpers import drawn
from training.dataset.perturbations import perturb
pictures = np.stack([drawn.scene(96, 64, number) for number in range(3)])
print(hashlib.sha256(perturb(pictures, "h264", 3).tobytes()).hexdigest())
"""


def test_another_process_gets_the_same_pixels(pictures):
    here = hashlib.sha256(perturb(pictures, "h264", 3).tobytes()).hexdigest()
    path = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{_AGAIN}"]
    assert subprocess.run(path, capture_output=True, text=True, check=True).stdout.strip() == here


class Recording:
    """Stands for `av.VideoFrame` and notes in which formats frames are made."""

    def __init__(self):
        self.formats, self.make = [], av.VideoFrame.from_ndarray

    def from_ndarray(self, array, format="rgb24", **others):
        self.formats.append(format)
        return self.make(array, format, **others)


WRITERS = {
    "demo": lambda path, pictures: write_video(path / "v.mp4", pictures, 20),
    "masks": lambda path, pictures: write_masks(path / "m.mp4", [picture[..., 0] // 200 for picture in pictures]),
    "robustness": lambda path, pictures: perturb(pictures[:, :63, :95], "h264", 2),
    "tests": lambda path, pictures: drawn.write_video(path / "v.mp4", 3, lambda number: pictures[number]),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_no_conversion_is_left_to_the_encoder(pictures, tmp_path, monkeypatch, writer):
    recording = Recording()
    monkeypatch.setattr(av, "VideoFrame", recording)
    WRITERS[writer](tmp_path, pictures)
    assert set(recording.formats) == {"gray" if writer == "masks" else "yuv420p"}


def test_frames_carry_the_pixel_format_of_their_stream(pictures):
    assert encoder_frame(pictures[0]).format.name == "yuv420p"
    assert encoder_frame(pictures[0, ..., 0]).format.name == "gray"
