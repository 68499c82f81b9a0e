"""Pictures that claim too much, and the one rule for masks."""

import struct

import cv2
import numpy as np
import pytest
from helpers.drawn import boasting_png

from common.errors import DataError
from common.images import decode_mask, decode_picture, decode_rgb, mask_of, picture_size, read_rgb

ENDINGS = (".png", ".jpg", ".webp", ".bmp", ".gif", ".tif", ".ppm", ".pgm", ".pam", ".avif")


def picture(width: int = 37, height: int = 21) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def coded(ending: str, image: np.ndarray) -> bytes:
    done, data = cv2.imencode(ending, image[..., 0] if ending == ".pgm" else image)
    assert done
    return data.tobytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_size_in_the_header_is_the_decoded_one(ending):
    image = picture()
    data = coded(ending, image)
    assert picture_size(data) == (37, 21)
    assert decode_picture(data, "x").shape == (21, 37, 3)
    assert picture_size(data[:6]) is None


def test_other_forms_of_headers_are_read_too():
    image = picture()
    done, lossy = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 50])
    assert done
    assert picture_size(lossy.tobytes()) == (37, 21)
    done, progressive = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    assert picture_size(progressive.tobytes()) == (37, 21)
    assert picture_size(b"P5 # a remark 9 9\n37 # another\n21 255\n" + bytes(777)) == (37, 21)
    assert picture_size(b"BM" + bytes(12) + struct.pack("<Iii", 40, 37, -21)) == (37, 21)
    tiled = b"MM\0*" + struct.pack(">IH", 8, 4)
    tiled += b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in ((256, 8), (257, 8)))
    tiled += b"".join(struct.pack(">HHII", tag, 4, 1, 1 << 16) for tag in (322, 323))
    assert picture_size(tiled) == (1 << 16, 1 << 16)
    assert picture_size(b"\xff\x4f\xff\x51" + struct.pack(">HHIIII", 41, 0, 40, 30, 3, 9)) == (37, 21)


HUGE = {
    "png": boasting_png(40000, 40000),
    "bmp": b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 30000, 30000, 1, 24, 0) + bytes(100),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0xF0, 0, 0) + bytes(100),
    "jpg": b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0" + struct.pack(">HBHHB", 17, 8, 60000, 60000, 3) + bytes(100),
    "webp": b"RIFF\x60\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3e\0" * 2 + bytes(80),
    "ppm": b"P6\n40000 40000\n255\n" + bytes(100),
    "tif": b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIIHHII", 256, 4, 1, 40000, 257, 4, 1, 40000) + bytes(100),
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_picture_that_claims_too_much_is_never_decoded(kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for decode in (decode_picture, decode_rgb, decode_mask):
        with pytest.raises(DataError, match=r"^album/x says it has \d{5}x\d{5} pixels.*64000000.*max_pixels"):
            decode(HUGE[kind], "album/x")


def test_the_limit_is_the_callers():
    data = coded(".png", picture())
    assert decode_rgb(data, "x", max_pixels=37 * 21).shape == (21, 37, 3)
    with pytest.raises(DataError, match="37x21"):
        decode_rgb(data, "x", max_pixels=37 * 21 - 1)


def test_what_is_no_picture_is_one_sentence(tmp_path):
    whole = coded(".png", picture())
    for data in (
        b"",
        b"P",
        b"hello",
        b"\xff\xd8\xff",
        b"RIFFxxxxWEBPVP8Q",
        b"P5 x y",
        whole[:40],
        b"II*\0\xff\xff\xff\xff",
    ):
        with pytest.raises(DataError, match=r"^x is (empty|not a readable image).*; download it again$"):
            decode_rgb(data, "x")
    with pytest.raises(DataError, match="no such picture"):
        read_rgb(tmp_path / "none.png")
    with pytest.raises(DataError, match="no such picture"):
        read_rgb("a\0b.png")
    with pytest.raises(DataError, match="cannot read"):
        read_rgb(tmp_path)
    (tmp_path / "a.png").write_bytes(whole)
    assert np.array_equal(read_rgb(tmp_path / "a.png"), picture()[..., ::-1])


def test_a_mask_marks_what_its_brightest_channel_shows():
    gray = np.array([[0, 1, 15, 16, 100, 127, 128, 255]], np.uint8)
    marked = [[0, 0, 0, 1, 1, 1, 1, 1]]
    assert mask_of(gray).tolist() == marked
    for channel in range(3):
        colour = np.zeros((1, 8, 3), np.uint8)
        colour[..., channel] = gray
        assert mask_of(colour).tolist() == marked
    opaque = np.dstack([colour, np.full_like(gray, 255)])
    assert mask_of(opaque).tolist() == marked
    assert mask_of(gray.astype(np.uint16) * 257).tolist() == marked
    assert mask_of(gray / 255).tolist() == marked
    assert mask_of(gray > 15).tolist() == marked
    assert mask_of(gray[..., None]).tolist() == marked


def test_a_mask_of_zeros_and_ones_counts_unless_a_codec_made_it():
    ones = np.array([[0, 1]], np.uint8)
    assert mask_of(ones).tolist() == [[0, 1]]
    assert mask_of(ones, lossy=True).tolist() == [[0, 0]]
    assert mask_of(np.zeros((0, 0), np.uint8)).shape == (0, 0)


def test_mask_files_keep_depth_and_colour():
    blue = np.zeros((4, 4, 3), np.uint8)
    blue[:, 2:, 0] = 100
    expected = [[0, 0, 1, 1]] * 4
    assert decode_mask(coded(".png", blue), "x").tolist() == expected
    assert decode_mask(coded(".png", (blue[..., 0] > 0).astype(np.uint8)), "x").tolist() == expected
    assert decode_mask(coded(".png", (blue[..., 0] > 0).astype(np.uint16)), "x").tolist() == expected
    noisy = cv2.imencode(".jpg", np.ones((16, 16), np.uint8))[1].tobytes()
    assert not decode_mask(noisy, "x").any()
