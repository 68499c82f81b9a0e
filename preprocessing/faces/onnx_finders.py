"""Finders whose networks are ONNX files of the user's: YuNet, SCRFD, RetinaFace; OpenCV runs them on the CPU.

Sources of the decoding: Wu et al., "YuNet", MIR 20 (2023); Guo et al., "SCRFD", ICLR 2022 (distances from anchor points to the
four sides, in strides); Deng et al., "RetinaFace", CVPR 2020 (offsets from prior boxes, with SSD's variances).
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, DataError
from preprocessing.faces.box import Box
from preprocessing.faces.window import Window, dlib_like, largest_first, window

_SHORT, _NEAR_SIDE = 640, 112.0
_SURE = 0.5
_STRIDES = (8, 16, 32)
_PRIORS = ((16, 32), (64, 128), (256, 512))  # sides of RetinaFace's prior boxes by stride, pixels
_VARIANCES = (0.1, 0.2)


class OnnxFinder:
    """A network in a file; what a subclass adds is how it is asked, and how its answer is read."""

    name = ""

    def __init__(self, file: str | None = None):
        if not file:
            raise ConfigError(f"--detector {self.name} needs its network; give the ONNX file with --detector_file")
        if not Path(file).is_file():
            raise DataError(f"--detector_file: there is no file {file}; give {self.name}'s ONNX file")
        self.file = Path(file)
        try:
            self._network = self._load(str(file))
        except cv2.error as error:
            raise DataError(f"{file} cannot be read as a network ({str(error).strip()}); download it again") from error

    def detect(self, image: NDArray[np.uint8], near: Box | None = None, smallest: float = 0.0) -> list[Box]:
        """Return the faces of an (H, W, 3) RGB image, largest first; with `near`, those around that box.

        Raises:
            DataError: the file's network answers otherwise than this finder's.
        """
        part = window(image, near, _NEAR_SIDE, _SHORT)
        if not part.pixels.size:
            return []
        try:
            rows = self._ask(part)
        except (cv2.error, ValueError, IndexError) as error:
            raise DataError(
                f"{self.file} does not answer as {self.name} does ({str(error).strip()}); choose another --detector"
            ) from error
        return largest_first([dlib_like(part.back(*map(float, row))) for row in rows if row[4] >= _SURE])

    def _load(self, file: str) -> Any:
        return cv2.dnn.readNetFromONNX(file)

    @abstractmethod
    def _ask(self, part: Window) -> NDArray[np.floating]:
        """Return (N, 5): left, top, right, bottom in pixels of the window, and the score in [0, 1]."""

    def _forward(self, pixels: NDArray[np.uint8], mean: tuple[float, ...], scale: float, swap: bool) -> list[NDArray]:
        """Return all outputs for a window filled up to whole strides, RGB or (`swap`) BGR."""
        height, width = (-(-side // _STRIDES[-1]) * _STRIDES[-1] for side in pixels.shape[:2])
        padded = np.zeros((height, width, 3), np.uint8)
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        self._size = height, width
        self._network.setInput(cv2.dnn.blobFromImage(padded, scale, mean=mean, swapRB=swap))
        return [np.asarray(out) for out in self._network.forward(self._network.getUnconnectedOutLayersNames())]


class YuNet(OnnxFinder):
    """Finder by name `yunet`."""

    name = "yunet"

    def _load(self, file: str) -> Any:
        return cv2.FaceDetectorYN.create(file, "", (320, 320), _SURE)

    def _ask(self, part: Window) -> NDArray[np.floating]:
        self._network.setInputSize((part.pixels.shape[1], part.pixels.shape[0]))
        _, rows = self._network.detect(cv2.cvtColor(part.pixels, cv2.COLOR_RGB2BGR))
        if rows is None:
            return np.zeros((0, 5))
        return np.column_stack([rows[:, :2], rows[:, :2] + rows[:, 2:4], rows[:, -1]])


class Scrfd(OnnxFinder):
    """Finder by name `scrfd`."""

    name = "scrfd"

    def _ask(self, part: Window) -> NDArray[np.floating]:
        return decode_scrfd(self._forward(part.pixels, (127.5,) * 3, 1 / 128, swap=False), *self._size)


class RetinaFace(OnnxFinder):
    """Finder by name `retinaface`."""

    name = "retinaface"

    def _ask(self, part: Window) -> NDArray[np.floating]:
        return decode_retinaface(self._forward(part.pixels, (123.0, 117.0, 104.0), 1.0, swap=True), *self._size)


def decode_scrfd(outputs: list[NDArray], height: int, width: int) -> NDArray[np.floating]:
    """Return (N, 5) boxes and scores of SCRFD's outputs for a (height, width) input.

    Args:
        outputs: in any order, per stride 8, 16, 32 scores (P, 1), distances (P, 4) and maybe points (P, 10), with or without
            a leading batch of one; P is cells times anchors.

    Raises:
        ValueError: they are not SCRFD's.
    """
    flat = [np.asarray(out, np.float32).reshape(-1, out.shape[-1]) for out in outputs if out.ndim >= 2]
    found = []
    for stride in _STRIDES:
        rows, columns = height // stride, width // stride
        cells = rows * columns
        fit = {out.shape[1]: out for out in flat if len(out) in (cells, 2 * cells)}
        if not {1, 4} <= set(fit) or len(fit[1]) != len(fit[4]):
            raise ValueError(f"no scores and boxes of stride {stride} among outputs {[out.shape for out in outputs]}")
        anchors = len(fit[1]) // cells
        y, x = np.mgrid[:rows, :columns].reshape(2, -1) * stride
        points = np.repeat(np.stack([x, y], axis=1), anchors, axis=0)  # (P, 2)
        sides = fit[4] * stride
        found.append(np.concatenate([points - sides[:, :2], points + sides[:, 2:], fit[1]], axis=1))
    return np.concatenate(found)


def decode_retinaface(outputs: list[NDArray], height: int, width: int) -> NDArray[np.floating]:
    """Return (N, 5) boxes and scores of RetinaFace's outputs for a (height, width) input.

    Args:
        outputs: in any order, offsets (1, P, 4), probabilities (1, P, 2) of background and face, and maybe points (1, P, 10).

    Raises:
        ValueError: they are not RetinaFace's.
    """
    flat = {out.shape[-1]: np.asarray(out, np.float32).reshape(-1, out.shape[-1]) for out in outputs}
    priors = retinaface_priors(height, width)
    if not {2, 4} <= set(flat) or {len(flat[2]), len(flat[4])} != {len(priors)}:
        raise ValueError(f"{len(priors)} offsets and probabilities expected, not {[out.shape for out in outputs]}")
    centre = priors[:, :2] + flat[4][:, :2] * _VARIANCES[0] * priors[:, 2:]
    half = priors[:, 2:] * np.exp(flat[4][:, 2:] * _VARIANCES[1]) / 2
    return np.concatenate([centre - half, centre + half, flat[2][:, 1:]], axis=1)


def retinaface_priors(height: int, width: int) -> NDArray[np.float32]:
    """Return (P, 4) prior boxes, centre x, y, width, height in pixels, by stride, row, column, size."""
    found = []
    for stride, sides in zip(_STRIDES, _PRIORS, strict=True):
        y, x = (np.mgrid[: -(-height // stride), : -(-width // stride)].reshape(2, -1) + 0.5) * stride
        for_each = [np.stack([x, y, np.full_like(x, side), np.full_like(x, side)], axis=1) for side in sides]
        found.append(np.stack(for_each, axis=1).reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)
