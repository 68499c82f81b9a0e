"""One person through a video: find the largest face once, then look near where it was.

Looking near the neighbouring frame's box is what makes this fast, and what keeps a second person who walks in, however
large, from taking over. Frames arrive in order and in bounded portions, so a long video needs no more memory than a short one.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
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
_SEEN = 0.25  # of the first one's frames, in which another person is seen at least
_ONE_FACE = 0.3  # overlap from which two boxes show one face
_RESCALE = (0.5, 2.0)  # between neighbouring frames a face neither halves nor doubles

# A face is manipulated where so much of its box is marked, or its box holds so much of the mask …
_IN_BOX, _IN_MASK = 0.25, 0.2
_TOUCHED = 0.01  # … and at least so much of its box

Mask = NDArray[np.uint8]
"""Which pixels of a frame are manipulated, (H, W) of zeros and ones; of the frame's size or another."""


class FaceTracker:
    """Follows one face; `follow` is called with one portion of frames after the other.

    Whom to follow is decided once: the largest face of the first frame that shows one, or, where masks are given, the face
    that a mask overlaps most in the first frame where it overlaps one. Where the face is lost, a face elsewhere is believed
    to be the same person's only if it is of like size and looks alike.

    Args:
        detector: finds faces.
        insist: with masks, follow nobody rather than a person whom no mask overlaps.

    Attributes:
        passed_over: faces were seen, and none of them was followed because no mask overlaps it.
        before: frames of earlier portions that went by before a mask showed whom to follow.
    """

    def __init__(self, detector: FaceDetector, insist: bool = True):
        self._detector, self._insist = detector, insist
        self._last: Box | None = None
        self._size: tuple[int, ...] = (0, 0)
        self._look: NDArray | None = None
        self._misses = 0
        self._masked = False
        self._seen = False
        self.before = 0

    @property
    def passed_over(self) -> bool:
        return self._last is None and self._seen

    def follow(self, frames: list[NDArray[np.uint8]], masks: Sequence[Mask | None] | None = None) -> list[Box | None]:
        """Return the followed face's box in each (H, W, 3) RGB frame, None where it is not seen.

        `masks` has an entry per frame, None where it is not known.
        """
        boxes: list[Box | None] = [None] * len(frames)
        if self._last is None:
            anchor = self._find_anchor(frames, masks or ())
            if anchor is None:
                self.before += len(frames) if self._masked else 0
                return boxes
            return self.start(frames, *anchor)
        return [self._next(frame) for frame in frames]

    def start(self, frames: list[NDArray[np.uint8]], first: int, box: Box) -> list[Box | None]:
        """Follow, from now on, the person whose face is at `box` in frame `first`; return the boxes in all of these frames."""
        boxes: list[Box | None] = [None] * len(frames)
        self._accept(frames[first], box)
        for index in range(first - 1, -1, -1):
            boxes[index] = self._next(frames[index])
        self._accept(frames[first], box)
        boxes[first] = box
        for index in range(first + 1, len(frames)):
            boxes[index] = self._next(frames[index])
        return boxes

    def _find_anchor(self, frames: list[NDArray[np.uint8]], masks: Sequence[Mask | None]) -> tuple[int, Box] | None:
        self._masked = self._masked or any(mask is not None for mask in masks)
        if self._masked:
            marked = [index for index, mask in enumerate(masks) if mask is not None and mask.any()]
            for index, found in self._search(frames, marked):
                mask = masks[index]
                assert mask is not None
                box = _manipulated(found, mask, frames[index].shape[:2])
                if box is not None:
                    return index, box
            if self._insist:
                # Nobody to follow; whether there is anybody at all is what the caller tells the user.
                self._seen = self._seen or next(self._search(frames, list(range(len(frames)))), None) is not None
                return None
        for index, found in self._search(frames, list(range(len(frames)))):
            return index, found[0]
        return None

    def _search(self, frames: list[NDArray[np.uint8]], places: list[int]) -> Iterator[tuple[int, list[Box]]]:
        """Yield the frames that show faces, with these: quickly found ones first."""
        # A few frames without doubling them, which costs four times the rest; only then all of them in full.
        for part, smallest in ((places[:_QUICK], _USUAL), (places, 0.0)):
            for index in part:
                found = self._detector.detect(frames[index], smallest=smallest * min(frames[index].shape[:2]))
                if found:
                    self._seen = True
                    yield index, found

    def _next(self, frame: NDArray[np.uint8]) -> Box | None:
        last = self._last
        assert last is not None
        if frame.shape[:2] != self._size:  # the same picture in another size: the face has grown with it
            last = self._last = _resized(last, self._size, frame.shape[:2])
            self._size = frame.shape[:2]
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
        self._last, self._look, self._misses, self._size = box, _look(frame, box), 0, frame.shape[:2]

    def _difference(self, frame: NDArray[np.uint8], box: Box) -> float:
        look = _look(frame, box)
        if look is None or self._look is None:
            return float("inf")
        return float(np.abs(look - self._look).mean())


class PeopleTracker:
    """Follows everybody, each on their own: the first is whom a `FaceTracker` follows, the others as they are seen.

    Newcomers are looked for in the first, middle and last frame of a portion.

    Args:
        detector: finds faces.
        insist: with masks, follow nobody until a mask overlaps somebody.

    Attributes:
        first: follows the first person; ask it afterwards how it went.
    """

    def __init__(self, detector: FaceDetector, insist: bool = True):
        self._detector = detector
        self.first = FaceTracker(detector, insist)
        self._trackers: list[FaceTracker] = [self.first]

    def follow(
        self, frames: list[NDArray[np.uint8]], masks: Sequence[Mask | None] | None = None
    ) -> list[list[Box | None]]:
        """Return the boxes of each person, known or new, in each (H, W, 3) RGB frame; None where they are not seen.

        `masks`, as in `FaceTracker.follow`, say who is the first.
        """
        tracks = [self.first.follow(frames, masks), *(tracker.follow(frames) for tracker in self._trackers[1:])]
        if all(box is None for box in tracks[0]):
            return tracks  # with nobody in sight, there are no others either
        for index in sorted({0, len(frames) // 2, len(frames) - 1}):
            for box in everybody(self._detector, frames[index]):
                if any(_one_face(track[index], box) for track in tracks):
                    continue
                tracker = FaceTracker(self._detector)
                self._trackers.append(tracker)
                tracks.append(tracker.start(frames, index, box))
        for place in range(len(frames)):  # two who end on one face: it is the earlier one's
            for later in range(1, len(tracks)):
                if any(_one_face(track[place], tracks[later][place]) for track in tracks[:later]):
                    tracks[later][place] = None
        return tracks


def everybody(detector: FaceDetector, image: NDArray[np.uint8]) -> list[Box]:
    """Return all faces of an (H, W, 3) RGB image, largest first, also of finders that stop at the largest."""
    return getattr(detector, "everybody", detector.detect)(image)


def _one_face(first: Box | None, second: Box | None) -> bool:
    return first is not None and second is not None and overlap(first, second) >= _ONE_FACE


def _look(frame: NDArray[np.uint8], box: Box) -> NDArray[np.float32] | None:
    """Return a face's rough look, (16, 16, 3); None outside the frame."""
    part = frame[max(0, int(box.top)) : int(box.bottom), max(0, int(box.left)) : int(box.right)]
    if part.size == 0:
        return None
    return cv2.resize(part, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)


def _distance(first: Box, second: Box) -> float:
    return float(np.hypot(first.centre[0] - second.centre[0], first.centre[1] - second.centre[1]))


def _resized(box: Box, old: tuple[int, ...], new: tuple[int, ...]) -> Box:
    """Return where a box lies in a picture of another (height, width); it keeps its shape."""
    down, across = new[0] / old[0], new[1] / old[1]
    factor = (down * across) ** 0.5
    x, y = box.centre[0] * across, box.centre[1] * down
    width, height = (box.right - box.left) / 2 * factor, (box.bottom - box.top) / 2 * factor
    return Box(x - width, y - height, x + width, y + height, box.score)


def touched(box: Box, mask: Mask, size: tuple[int, ...]) -> bool:
    """Tell whether a mask marks a face in a frame of `size` (height, width)."""
    return _manipulated([box], mask, size) is not None


def _manipulated(found: list[Box], mask: Mask, size: tuple[int, ...]) -> Box | None:
    """Return the face that a mask overlaps most (intersection over union); None where it overlaps none to speak of."""
    down, across = mask.shape[0] / size[0], mask.shape[1] / size[1]
    total, best, most = int(mask.sum()), None, 0.0
    for box in found:
        top, bottom = (min(max(round(value * down), 0), mask.shape[0]) for value in (box.top, box.bottom))
        left, right = (min(max(round(value * across), 0), mask.shape[1]) for value in (box.left, box.right))
        area, common = (bottom - top) * (right - left), int(mask[top:bottom, left:right].sum())
        # A neighbour's mask may reach a little into a box, and a mouth's mask is a small part of its face.
        if not common or common < _TOUCHED * area or (common < _IN_BOX * area and common < _IN_MASK * total):
            continue
        if (share := common / (total + area - common)) > most:
            best, most = box, share
    return best


def track_faces(
    frames: Iterable[tuple[int, NDArray[np.uint8]]],
    pipeline: FacePipeline,
    portion: int = PORTION,
    mask_of_frame: Callable[[int], Mask | None] | None = None,
    tracker: FaceTracker | None = None,
) -> Iterator[Face]:
    """Yield the followed person's face of each (number, (H, W, 3) RGB) frame that shows it, in order.

    Args:
        mask_of_frame: gives the mask of a frame's number, asked in order, None where it is not known: the person whom
            the masks show is followed.
        tracker: ask it afterwards how it went; None: a new one.
    """
    tracker = tracker or FaceTracker(pipeline.detector)
    stream = iter(frames)
    while batch := list(islice(stream, portion)):
        masks = None if mask_of_frame is None else [mask_of_frame(number) for number, _ in batch]
        boxes = tracker.follow([image for _, image in batch], masks)
        for (number, image), box in zip(batch, boxes):
            if box is not None:
                yield pipeline.crop_box(image, box, number)


def track_everybody(
    frames: Iterable[tuple[int, NDArray[np.uint8]]],
    pipeline: FacePipeline,
    portion: int = PORTION,
    mask_of_frame: Callable[[int], Mask | None] | None = None,
    tracker: PeopleTracker | None = None,
) -> Iterator[tuple[int, Face]]:
    """Yield (person, face) of everybody in (number, (H, W, 3) RGB) frames; each one's faces come in order.

    Person 0 is the one that `track_faces` follows, and the arguments are its own. Whether the others stay is for the caller to
    say, by `stays`, when all have come.
    """
    tracker, stream = tracker or PeopleTracker(pipeline.detector), iter(frames)
    while batch := list(islice(stream, portion)):
        masks = None if mask_of_frame is None else [mask_of_frame(number) for number, _ in batch]
        for person, boxes in enumerate(tracker.follow([image for _, image in batch], masks)):
            for (number, image), box in zip(batch, boxes):
                if box is not None:
                    yield person, pipeline.crop_box(image, box, number)


def stays(faces: int, of_first: int) -> bool:
    """Tell of somebody seen in that many frames whether it is more than a false alarm or a passer-by."""
    return faces > 0 and faces >= of_first * _SEEN


def track_people(
    frames: Iterable[tuple[int, NDArray[np.uint8]]], pipeline: FacePipeline, portion: int = PORTION
) -> list[list[Face]]:
    """Return the faces of each person of (number, (H, W, 3) RGB) frames in order, first the one that `track_faces` follows.

    Who is seen in fewer than a quarter of the first one's frames is left out.
    """
    people: dict[int, list[Face]] = {0: []}
    for person, face in track_everybody(frames, pipeline, portion):
        people.setdefault(person, []).append(face)
    return [people[person] for person in sorted(people) if stays(len(people[person]), len(people[0]))]


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
