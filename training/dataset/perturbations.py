"""What happens to videos between camera and detector: ten perturbations in five severities, deterministic.

Severity 1 is hardly visible, severity 5 is strong; 0 means untouched. Lengths are given for images of 256 pixels and scale with
the image. Random ones (noise, occlusion) take the same draw at every severity, so that only strength differs.

JPEG, blur, noise, contrast, saturation, block-wise occlusion and pixelation are the kinds of DeeperForensics-1.0 (Jiang et al.,
CVPR 2020); H.264, down-up scaling and brightness join them. The parameters are this project's own, and are stated here.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError

Frames = NDArray[np.uint8]  # (T, H, W, 3) RGB
REFERENCE_SIDE = 256
OCCLUSION_GRID = 16  # blocks to a side

# kind → (what the parameter is, its value at severities 1 to 5)
SEVERITIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "jpeg": ("quality", (90, 70, 50, 30, 10)),
    "h264": ("crf", (23, 28, 33, 38, 43)),
    "gaussian_noise": ("sigma of 255", (5, 10, 17, 26, 40)),
    "gaussian_blur": ("sigma in pixels at 256", (0.8, 1.4, 2.2, 3.2, 4.5)),
    "resize": ("factor down and up again", (0.75, 0.5, 0.35, 0.25, 0.15)),
    "contrast": ("factor around the mean", (0.85, 0.7, 0.55, 0.4, 0.25)),
    "saturation": ("factor", (0.8, 0.6, 0.4, 0.2, 0.0)),
    "occlusion": (f"blocks of {OCCLUSION_GRID**2}", (8, 16, 32, 56, 88)),
    "brightness": ("factor", (0.85, 0.7, 0.55, 0.4, 0.25)),
    "pixelation": ("block side in pixels at 256", (3, 4, 6, 8, 12)),
}
KINDS = tuple(SEVERITIES)
VERSION = 2  # raise it when the same request gives other pixels, so that no kept score is taken for one of these


def perturb(frames: Frames, kind: str, severity: int, *, seed: int = 0, video: str = "") -> Frames:
    """Return the perturbed frames of one video.

    Args:
        frames: `(T, H, W, 3)` uint8 RGB; for H.264 they are coded as one stream, in this order.
        kind: one of `KINDS`.
        severity: 0 (untouched) to 5.
        seed, video: choose the random draw of noise and occlusion; the same video gets the same draw.

    Raises:
        ConfigError: unknown kind or severity.
    """
    if kind not in SEVERITIES:
        raise ConfigError(f"there is no perturbation `{kind}`; choose from {', '.join(KINDS)}")
    if severity not in range(6):
        raise ConfigError(f"severity must be 0 to 5, not {severity}")
    if severity == 0:
        return frames
    rng = np.random.default_rng([seed, zlib.crc32(video.encode()), zlib.crc32(kind.encode())])
    return _APPLY[kind](frames, SEVERITIES[kind][1][severity - 1], rng)


def _scale(frames: Frames) -> float:
    return max(frames.shape[1:3]) / REFERENCE_SIDE


def _each(frames: Frames, change: Callable[[NDArray], NDArray]) -> Frames:
    return np.stack([change(frame) for frame in frames])


def _round(values: NDArray) -> Frames:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _jpeg(frames: Frames, quality: float, _: np.random.Generator) -> Frames:
    import cv2

    def code(frame: NDArray) -> NDArray:
        _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None, "what OpenCV has just coded, it decodes"
        return decoded[..., ::-1]

    return _each(frames, code)


def _h264(frames: Frames, crf: float, _: np.random.Generator) -> Frames:
    """Code the frames as one stream with x264 (preset medium, 25 frames/s, 4:2:0) and decode them again."""
    import av
    import cv2

    from common.h264 import encode

    count, height, width = frames.shape[:3]
    # 4:2:0 needs even sides; the added line repeats the last one and is cut off again.
    padded = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        encode(container, padded, 25, {"crf": str(int(crf)), "preset": "medium"})
    buffer.seek(0)
    with av.open(buffer, "r") as source:
        # The planes as decoded, and OpenCV's integer conversion: no bit depends on FFmpeg's scaler.
        decoded = [cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420) for frame in source.decode(video=0)]
    if len(decoded) != count:
        raise RuntimeError(f"{count} frames were coded and {len(decoded)} came back")
    return np.stack(decoded).astype(np.uint8, copy=False)[:, :height, :width]


def _gaussian_noise(frames: Frames, sigma: float, rng: np.random.Generator) -> Frames:
    return _each(frames, lambda frame: _round(frame + sigma * rng.standard_normal(frame.shape, np.float32)))


def _gaussian_blur(frames: Frames, sigma: float, _: np.random.Generator) -> Frames:
    import cv2

    sigma *= _scale(frames)
    return _each(frames, lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))


def _resize(frames: Frames, factor: float, _: np.random.Generator) -> Frames:
    import cv2

    height, width = frames.shape[1:3]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))

    def down_up(frame: NDArray) -> NDArray:
        return cv2.resize(
            cv2.resize(frame, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_CUBIC
        )

    return _each(frames, down_up)


def _contrast(frames: Frames, factor: float, _: np.random.Generator) -> Frames:
    return _each(frames, lambda frame: _round((mean := frame.mean(axis=(0, 1))) + factor * (frame - mean)))


def _saturation(frames: Frames, factor: float, _: np.random.Generator) -> Frames:
    def fade(frame: NDArray) -> NDArray:
        luma = frame @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
        return _round(luma[..., None] + factor * (frame - luma[..., None]))

    return _each(frames, fade)


def _occlusion(frames: Frames, blocks: float, rng: np.random.Generator) -> Frames:
    """Grey out blocks, the same in all frames; a stronger severity covers those of a weaker one too."""
    height, width = frames.shape[1:3]
    chosen = rng.permutation(OCCLUSION_GRID**2)[: int(blocks)]
    grid = np.zeros((OCCLUSION_GRID, OCCLUSION_GRID), bool)
    grid.flat[chosen] = True
    rows, columns = (np.arange(side) * OCCLUSION_GRID // side for side in (height, width))
    return np.where(grid[rows][:, columns][None, :, :, None], np.uint8(127), frames)


def _brightness(frames: Frames, factor: float, _: np.random.Generator) -> Frames:
    return _each(frames, lambda frame: _round(frame * factor))


def _pixelation(frames: Frames, block: float, _: np.random.Generator) -> Frames:
    """Replace blocks by their mean; sides that the block does not divide get blocks of neighbouring whole sizes."""
    size = max(1.0, block * _scale(frames))
    cell = [np.arange(side) * max(1, round(side / size)) // side for side in frames.shape[1:3]]
    starts = [np.flatnonzero(np.diff(rows, prepend=-1)) for rows in cell]
    pixels = np.outer(*(np.bincount(rows) for rows in cell))[..., None]

    def mosaic(frame: NDArray) -> NDArray:
        sums = np.add.reduceat(np.add.reduceat(frame.astype(np.float64), starts[0], axis=0), starts[1], axis=1)
        return _round(sums / pixels)[cell[0]][:, cell[1]]

    return _each(frames, mosaic)


_APPLY: dict[str, Callable[[Frames, float, np.random.Generator], Frames]] = {
    "jpeg": _jpeg,
    "h264": _h264,
    "gaussian_noise": _gaussian_noise,
    "gaussian_blur": _gaussian_blur,
    "resize": _resize,
    "contrast": _contrast,
    "saturation": _saturation,
    "occlusion": _occlusion,
    "brightness": _brightness,
    "pixelation": _pixelation,
}
