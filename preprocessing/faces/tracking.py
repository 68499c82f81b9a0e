"""One person through a video: find the largest face once, then look near where it was.

Looking near the neighbouring frame's box is what makes this fast, and what keeps a second person who walks in, however
large, from taking over. Frames arrive in order and in bounded portions, so a long video needs no more memory than a short one.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.faces.box import Box, overlap
from preprocessing.faces.detection import FaceDetector
from preprocessing.faces.pipeline import Face, FacePipeline

PORTION = 32
"""Frames held at a time: 200 MB of full-HD pictures."""

_QUICK = 4  # frames that are first searched for a face of usual size only
_USUAL = 0.12  # of the frame's shorter side
_ALIKE = 28.0  # mean difference, in gray values, of two looks of one person
_SMALLER = 0.6  # of the last box: how small a lost face is looked for
_RESCALE = (0.5, 2.0)  # between neighbouring frames a face neither halves nor doubles


class FaceTracker:
    """Follows one face; `follow` is called with one portion of frames after the other.

    Whom to follow is decided once: the largest face of the first frame that shows one. Where the face is lost, a face
    elsewhere is believed to be the same person's only if it is of like size and looks alike.
    """

    def __init__(self, detector: FaceDetector):
        self._detector = detector
        self._last: Box | None = None
        self._look: NDArray | None = None
        self._misses = 0

    def follow(self, frames: list[NDArray[np.uint8]]) -> list[Box | None]:
        """Return the followed face's box in each (H, W, 3) RGB frame, None where it is not seen."""
        boxes: list[Box | None] = [None] * len(frames)
        first = 0
        if self._last is None:
            anchor = self._find_anchor(frames)
            if anchor is None:
                return boxes
            first, box = anchor
            self._accept(frames[first], box)
            for index in range(first - 1, -1, -1):
                boxes[index] = self._next(frames[index])
            self._accept(frames[first], box)
            boxes[first] = box
            first += 1
        for index in range(first, len(frames)):
            boxes[index] = self._next(frames[index])
        return boxes

    def _find_anchor(self, frames: list[NDArray[np.uint8]]) -> tuple[int, Box] | None:
        # A few frames without doubling them, which costs four times the rest; only then all of them in full.
        for part, smallest in ((frames[:_QUICK], _USUAL), (frames, 0.0)):
            for index, frame in enumerate(part):
                found = self._detector.detect(frame, smallest=smallest * min(frame.shape[:2]))
                if found:
                    return index, found[0]
        return None

    def _next(self, frame: NDArray[np.uint8]) -> Box | None:
        last = self._last
        assert last is not None
        found = self._detector.detect(frame, near=last)
        box = max(found, key=lambda box: (overlap(box, last), -_distance(box, last)), default=None)
        if box is None:
            self._misses += 1
            # A frame without the face is often followed by more: search all of the frame at misses 1, 2, 4, 8, …
            if self._misses & (self._misses - 1) == 0:
                box = self._recover(frame, last)
        if box is not None:
            self._accept(frame, box)
        return box

    def _recover(self, frame: NDArray[np.uint8], last: Box) -> Box | None:
        found = self._detector.detect(frame, smallest=_SMALLER * last.side)
        alike = [
            box
            for box in found
            if _RESCALE[0] <= box.side / last.side <= _RESCALE[1]
            and (_distance(box, last) < last.side / 2 or self._difference(frame, box) < _ALIKE)
        ]
        return min(alike, key=lambda box: _distance(box, last), default=None)

    def _accept(self, frame: NDArray[np.uint8], box: Box) -> None:
        self._last, self._look, self._misses = box, _look(frame, box), 0

    def _difference(self, frame: NDArray[np.uint8], box: Box) -> float:
        look = _look(frame, box)
        if look is None or self._look is None:
            return float("inf")
        return float(np.abs(look - self._look).mean())


def _look(frame: NDArray[np.uint8], box: Box) -> NDArray[np.float32] | None:
    """Return a face's rough look, (16, 16, 3); None outside the frame."""
    part = frame[max(0, int(box.top)) : int(box.bottom), max(0, int(box.left)) : int(box.right)]
    if part.size == 0:
        return None
    return cv2.resize(part, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)


def _distance(first: Box, second: Box) -> float:
    return float(np.hypot(first.centre[0] - second.centre[0], first.centre[1] - second.centre[1]))


def track_faces(
    frames: Iterable[tuple[int, NDArray[np.uint8]]], pipeline: FacePipeline, portion: int = PORTION
) -> Iterator[Face]:
    """Yield the followed person's face of each (number, (H, W, 3) RGB) frame that shows it, in order."""
    tracker = FaceTracker(pipeline.detector)
    stream = iter(frames)
    while batch := list(islice(stream, portion)):
        boxes = tracker.follow([image for _, image in batch])
        for (number, image), box in zip(batch, boxes):
            if box is not None:
                yield pipeline.crop_box(image, box, number)


def faces_of_video(
    path: str | os.PathLike,
    num_frames: int = 32,
    mode: str = "fixed_num_frames",
    stride: int = 10,
    pipeline: FacePipeline | None = None,
) -> list[Face]:
    """Cut the largest face, followed through the video, out of the chosen frames.

    Args:
        path: video file.
        num_frames: how many frames, evenly spread, for `mode` "fixed_num_frames".
        stride: every how many frames, for `mode` "fixed_stride".
        pipeline: reuse one; building it reads 100 MB of model.

    Raises:
        DataError: the video cannot be read or holds no frames.
    """
    from preprocessing.video_reader import VideoReader

    with VideoReader(path) as video:
        numbers = video.choose(mode, num_frames, stride)
        return list(track_faces(video.frames(numbers), pipeline or FacePipeline()))
