"""Drawn faces that dlib finds, and videos of them."""

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from common.h264 import encoder_frame


def draw_face(
    image: np.ndarray, centre: tuple[float, float], side: float, skin=(205, 160, 130), hair=(60, 40, 30)
) -> None:
    """Draw a shaded frontal face of about `side` pixels between the temples into an RGB image."""
    scale = 8.0
    canvas = np.full((640, 640, 4), 0, np.uint8)
    skin, hair = np.array(skin, float), np.array(hair, float)

    def ellipse(at, axes, colour, angle=0, start=0, end=360):
        cv2.ellipse(canvas, at, axes, angle, start, end, (*map(int, colour), 255), -1, cv2.LINE_AA)

    ellipse((320, 290), (175, 215), hair)
    ellipse((320, 530), (90, 110), skin * 0.75)
    ellipse((320, 330), (145, 195), skin)
    ellipse((320, 175), (140, 60), hair)
    for eye in (262, 378):
        ellipse((eye, 300), (40, 24), skin * 0.8)
        ellipse((eye, 302), (29, 13), (240, 240, 240))
        ellipse((eye, 302), (12, 12), (40, 30, 25))
        ellipse((eye, 268), (40, 9), hair * 0.8)
    ellipse((320, 355), (14, 45), skin * 1.12)
    ellipse((320, 392), (32, 13), skin * 0.7)
    for nostril in (306, 334):
        ellipse((nostril, 396), (8, 5), skin * 0.4)
    ellipse((320, 445), (52, 15), (150, 70, 70))
    ellipse((320, 444), (50, 3), (90, 30, 30))
    ellipse((320, 478), (40, 8), skin * 0.85)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 640 / scale / 24)
    factor = side / 290
    matrix = np.array([[factor, 0, centre[0] - 320 * factor], [0, factor, centre[1] - 320 * factor]])
    size = image.shape[1], image.shape[0]
    small = cv2.warpAffine(canvas, matrix, size, flags=cv2.INTER_AREA).astype(np.float32)
    alpha = small[..., 3:] / 255
    image[:] = (image * (1 - alpha) + small[..., :3] * alpha).astype(np.uint8)


def scene(width: int = 320, height: int = 240, seed: int = 0) -> np.ndarray:
    """Return an empty (height, width, 3) scene with soft noise."""
    noise = np.random.default_rng(seed).normal(120, 30, (height // 16 + 1, width // 16 + 1, 3)).clip(60, 180)
    return cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


Painter = Callable[[int], np.ndarray]


def write_video(
    path: Path,
    count: int,
    paint: Painter,
    times: list[int] | None = None,
    gop: int = 12,
    bframes: int = 2,
    x264: str = "",
) -> Path:
    """Write `count` frames at 25 per second (or shown at `times`, in 1/25 s) as H.264."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        first = paint(0)
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        stream.options = {"g": str(gop), "bf": str(bframes), "preset": "veryfast", "crf": "18", "threads": "1"}
        if x264:
            stream.options = {**stream.options, "x264-params": x264}
        for number in range(count):
            frame = encoder_frame(paint(number))
            frame.pts = times[number] if times else number
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sizes(
    path: Path, sizes: list[tuple[int, int]], each: int, paint: Callable[[int, int, int], np.ndarray]
) -> Path:
    """Write one VP8 track whose pictures change their (width, height): `each` frames `paint(number, width, height)` of a size."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    number, tick = 0, Fraction(1, 25)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuv420p"
        for width, height in sizes:
            encoder = av.CodecContext.create("libvpx", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base, encoder.framerate = tick, Fraction(25)
            encoder.options = {"crf": "8", "b": "4M", "lag-in-frames": "0", "threads": "1"}
            packets = []
            for _ in range(each):
                frame = av.VideoFrame.from_ndarray(paint(number, width, height), format="rgb24")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base, number = number, tick, number + 1
                packets += encoder.encode(frame)
            for packet in packets + encoder.encode(None):
                packet.stream, packet.time_base = stream, tick
                container.mux(packet)
    return path


def boasting_png(width: int = 40000, height: int = 40000) -> bytes:
    """Return a PNG of some 100 bytes that claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def numbered(number: int) -> np.ndarray:
    """Return a (48, 96, 3) picture that tells its number: eight bars of brightness, one a bit."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    row = np.repeat(np.array(bits, np.uint8) * 180 + 40, 12)
    return np.repeat(np.tile(row, (48, 1))[..., None], 3, axis=2)


def read_number(image: np.ndarray) -> int:
    """Return the number that `numbered` painted."""
    means = image.astype(float).mean(axis=(0, 2)).reshape(8, -1)[:, 3:-3].mean(axis=1)
    return sum(int(mean > 130) << bit for bit, mean in enumerate(means))
