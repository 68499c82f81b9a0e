"""One person through a video: find the largest face once, then look near where it was.

Looking near the neighbouring frame's box is what makes this fast, and what keeps a second person who walks in, however
large, from taking over. Frames arrive in order and in bounded portions, so a long video needs no more memory than a short one.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from preprocessing.faces.detection import Box, FaceDetector, overlap
from preprocessing.faces.pipeline import Face, FacePipeline

PORTION = 32
"""Frames held at a time: 200 MB of full-HD pictures."""

_QUICK = 5  # frames that a quick look for a large face takes
_SMALLER = 0.6  # of the last box: how small a lost face is looked for
_RESCALE = (0.5, 2.0)  # between neighbouring frames a face neither halves nor doubles


class FaceTracker:
    """Follows one face; `follow` is called with one portion of frames after the other."""

    def __init__(self, detector: FaceDetector):
        self._detector = detector
        self._last: Box | None = None
        self._misses = 0

    def follow(self, frames: list[NDArray[np.uint8]]) -> list[Box | None]:
        """Return the followed face's box in each (H, W, 3) RGB frame, None where it is not seen."""
        boxes: list[Box | None] = [None] * len(frames)
        first = 0
        if self._last is None:
            anchor = self._find_anchor(frames)
            if anchor is None:
                return boxes
            first, boxes[anchor[0]] = anchor
            for index in range(first - 1, -1, -1):
                boxes[index] = self._next(frames[index])
            self._last, self._misses = boxes[first], 0
            first += 1
        for index in range(first, len(frames)):
            boxes[index] = self._next(frames[index])
        return boxes

    def _find_anchor(self, frames: list[NDArray[np.uint8]]) -> tuple[int, Box] | None:
        order = spread_order(len(frames))
        # Large faces first: a quick look at some frames finds most; only then every frame down to the smallest face.
        for part, smallest in ((order[:_QUICK], 0.25), (order[:_QUICK], 0.12), (order, 0.0)):
            for index in part:
                found = self._detector.detect(frames[index], smallest=smallest * min(frames[index].shape[:2]))
                if found:
                    self._last, self._misses = found[0], 0
                    return index, found[0]
        return None

    def _next(self, frame: NDArray[np.uint8]) -> Box | None:
        assert self._last is not None
        box = self._choose(self._detector.detect(frame, near=self._last))
        if box is None:
            self._misses += 1
            # A frame without the face is often followed by more: search all of the frame at misses 1, 2, 4, 8, …
            if self._misses & (self._misses - 1) == 0:
                box = self._choose(self._detector.detect(frame, smallest=_SMALLER * self._last.side))
        if box is not None:
            self._last, self._misses = box, 0
        return box

    def _choose(self, found: list[Box]) -> Box | None:
        last = self._last
        assert last is not None
        alike = [box for box in found if _RESCALE[0] <= box.side / last.side <= _RESCALE[1]]
        return max(alike, key=lambda box: (overlap(box, last), -_distance(box, last)), default=None)


def _distance(first: Box, second: Box) -> float:
    return float(np.hypot(first.centre[0] - second.centre[0], first.centre[1] - second.centre[1]))


def spread_order(count: int) -> list[int]:
    """Return 0 … count - 1 so that every beginning of the list is spread over the whole range (middle first)."""
    order, seen, spans = [], set(), [(0, count - 1)]
    while spans:
        low, high = spans.pop(0)
        if low > high:
            continue
        middle = (low + high) // 2
        if middle not in seen:
            seen.add(middle)
            order.append(middle)
        spans += [(low, middle - 1), (middle + 1, high)]
    return order


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
