"""One video to its files: chosen frames, the followed face, crops, landmarks and masks.

A video's folders appear by renaming when all of their files are written, `frames/` last; a run that is killed leaves only
hidden half-written folders, which the next run removes.
"""

import io
import shutil
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.datasets import person_name
from common.errors import DataError, ProjectError
from common.images import MASK_FLOOR, MAX_PIXELS, decode_mask, mask_of, read_file, read_rgb
from common.io import NO_PLACE
from preprocessing.layouts._base import IMAGE_SUFFIXES

VIDEO_TIMEOUT = 600.0
"""Seconds that one video may take where nobody says otherwise: a hundred times what an ordinary one takes."""


@dataclass(frozen=True)
class Settings:
    """How faces are cut; what a finished video must have been made with not to be made again."""

    mode: str = "fixed_num_frames"
    num_frames: int = 32
    stride: int = 10
    detector: str = "hog"
    predictor: str | None = None
    size: int = 256
    scale: float = 1.3
    detector_file: str | None = None
    people: str = "largest"


@dataclass(frozen=True)
class Job:
    """A video to do: `video` and `mask` are files, products go to `folder`/{frames,landmarks,masks}/`name`.

    With the setting `people: all` each further person's go to `name`_person2 and so on beside that.

    Attributes:
        manipulated: the mask shows whose face is manipulated, and a video where it shows nobody's is no fake.
        max_pixels: of a picture or frame; a larger one is not decoded.
        timeout: seconds that the video may take; 0: any number.
        others: names of other videos of the folder that look like those of this one's people.
    """

    key: str
    video: Path
    folder: Path
    name: str
    mask: Path | None
    settings: Settings
    manipulated: bool = True
    max_pixels: int = MAX_PIXELS
    timeout: float = VIDEO_TIMEOUT
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Attributes:
        state: `done`; `partial` (some wanted frames could not be decoded, the faces of the others are there);
            `no_face`; `unmasked` (a fake whose mask lies on no face that was found: no face of it is known to be
            manipulated, nothing was written); `failed` (nothing was written).
        frames: frames looked at. faces: faces written. masks: masks written. seconds: time taken. error: what went
            wrong, else empty.
        forehead: `predicted`, or `extrapolated` when the landmark file knows 68 points only.
        people: faces of each person, where they are several. untouched: people of a fake whom its mask does not touch, and of
            whom nothing was written.
    """

    key: str
    state: str
    frames: int = 0
    faces: int = 0
    seconds: float = 0.0
    error: str = ""
    forehead: str = ""
    masks: int = 0
    people: tuple[int, ...] = ()
    untouched: int = 0


def process_video(job: Job) -> Outcome:
    """Do one video; never raises for what the video's file is to blame for."""
    start = perf_counter()
    try:
        with time_limit(job.timeout):
            outcome = _process(job)
    except Overtime:
        outcome = Outcome(job.key, "failed", error=overtime(job))
    except DataError as error:
        outcome = Outcome(job.key, "failed", error=str(error))
    except ProjectError:
        raise  # the disk is full, a model is missing: no other video would fare better
    except Exception as error:  # a decoder's surprise must not stop a run of a hundred thousand videos
        if isinstance(error, OSError) and error.errno in NO_PLACE:
            raise ProjectError(
                f"cannot write below {job.folder}: {error.strerror}; free some space or choose another --output"
            ) from error
        outcome = Outcome(job.key, "failed", error=f"{type(error).__name__}: {error}")
    return Outcome(**{**asdict(outcome), "seconds": round(perf_counter() - start, 3)})


class Overtime(BaseException):
    """A video takes too long. No `Exception`, so that nothing on the way takes it for a fault of one frame."""


def overtime(job: Job) -> str:
    """Return the sentence for a video that took too long."""
    return f"it took longer than {job.timeout:g} seconds; look at the file, or raise --video_timeout"


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Overtime` in here after so many seconds (0: never).

    By a timer of this process, which Python code and decoders listen to between two frames. Other threads than the main one
    have no such timer, and no limit. One that was set before goes on afterwards.
    """
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise Overtime

    start = perf_counter()
    before = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (perf_counter() - start), 1e-3), interval)


@dataclass
class _Person:
    """What was cut of one person: faces, masks; in how many of the frames seen there is a mask, and in how many it is on them."""

    faces: int = 0
    masks: int = 0
    marked: int = 0
    touched: int = 0


def _process(job: Job) -> Outcome:
    from preprocessing.faces.tracking import FaceTracker, PeopleTracker, track_everybody, track_faces

    pipeline = _pipeline(
        job.settings.detector, job.settings.predictor, job.settings.size, job.settings.scale, job.settings.detector_file
    )
    looked = 0
    people: dict[int, _Person] = {}
    with ExitStack() as stack:
        reader = stack.enter_context(open_frames(job.video, job.max_pixels))
        numbers = reader.choose(job.settings.mode, job.settings.num_frames, job.settings.stride)

        def counted() -> Iterator[tuple[int, NDArray[np.uint8]]]:
            nonlocal looked
            for item in reader.frames(numbers):
                looked += 1
                yield item

        products = _Products(job)
        stack.callback(products.discard)
        masks = stack.enter_context(_Masks(job, numbers)) if job.mask is not None else None
        mask_of_frame = masks.of_frame if masks else None
        found: Iterator[tuple[int, Any]]
        if job.settings.people == "all":
            everybody = PeopleTracker(pipeline.detector, insist=job.manipulated)
            tracker = everybody.first
            found = track_everybody(counted(), pipeline, mask_of_frame=mask_of_frame, tracker=everybody)
        else:
            tracker = FaceTracker(pipeline.detector, insist=job.manipulated)
            faces = track_faces(counted(), pipeline, mask_of_frame=mask_of_frame, tracker=tracker)
            found = ((0, face) for face in faces)
        for number, face in found:
            person = people.setdefault(number, _Person())
            products.write("frames", number, face.frame, face.crop)
            products.write("landmarks", number, face.frame, face.landmarks)
            person.faces += 1
            if masks is not None and (mask := masks.cut(face)) is not None:
                products.write("masks", number, face.frame, mask)
                person.masks += 1
                on_face = masks.touches(face)
                person.marked += on_face is not None
                person.touched += bool(on_face)
        kept, untouched = _kept(people, masks is not None, job.manipulated)
        damage = reader.damage or ""
        if people and masks is not None:
            damage = (
                damage or masks.missing(sum(person.faces for person in people.values())) or _told_late(tracker.before)
            )
        if looked:
            products.publish(kept)
    if looked == 0:
        return Outcome(job.key, "failed", error=damage or "no frame could be decoded")
    state = "no_face" if not kept else "partial" if damage else "done"
    if tracker.passed_over:
        told = f"{job.mask} marks none of the faces that were found; the video is left out"
        state, damage = "unmasked", f"{told} ({damage})" if damage else told
    return Outcome(
        job.key,
        state,
        looked,
        faces=sum(people[number].faces for number in kept),
        error=damage,
        forehead="extrapolated" if pipeline.landmarks.extrapolated else "predicted",
        masks=sum(people[number].masks for number in kept),
        people=tuple(people[number].faces for number in kept) if len(kept) > 1 else (),
        untouched=untouched,
    )


def _kept(people: dict[int, _Person], masked: bool, manipulated: bool) -> tuple[list[int], int]:
    """Return the people of whom the video's crops remain, the first one first, and how many a mask does not touch.

    Of a fake with a mask stays whom it marks in a quarter of the frames that have a mask, as far as that person is seen in them.
    Where there need be no fake, and the mask is on nobody, everybody stays.
    """
    from preprocessing.faces.tracking import stays

    if 0 not in people:
        return [], 0
    seen = [number for number in sorted(people) if stays(people[number].faces, people[0].faces)]
    if not masked or not (manipulated or people[0].touched):
        return seen, 0
    kept = [n for n in seen if n == 0 or 0 < people[n].marked <= 4 * people[n].touched]
    return kept, len(seen) - len(kept)


def _told_late(frames: int) -> str:
    """Return what is to be said where a mask showed only after so many frames whom to follow; else nothing."""
    return f"mask: the first {frames} frames went by before it lay on a face" if frames else ""


@lru_cache(maxsize=2)
def _pipeline(detector: str, predictor: str | None, size: int, scale: float, detector_file: str | None = None) -> Any:
    """Models are read once a process."""
    import cv2

    from preprocessing.faces.pipeline import FacePipeline

    cv2.setNumThreads(1)  # one process per core already
    return FacePipeline(detector, predictor, size, scale, detector_file)


class _Picture:
    """An image file, read like a video of one frame."""

    def __init__(self, path: Path, max_pixels: int):
        self.path, self.damage, self._max_pixels = path, None, max_pixels

    def __enter__(self) -> "_Picture":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def choose(self, mode: str, num_frames: int, stride: int) -> list[int]:
        return [0]

    def frames(self, numbers: Any) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        yield 0, read_rgb(self.path, self._max_pixels)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def open_frames(path: Path, max_pixels: int = MAX_PIXELS) -> Any:
    """Return a reader of a video, or of a picture as a video of one frame."""
    from preprocessing.video_reader import VideoReader

    return _Picture(path, max_pixels) if _is_picture(path) else VideoReader(path, max_pixels)


class _Masks:
    """The masks beside a video's frames, read in step with them; use as a context manager.

    A mask file that cannot be read, or ends early, costs the masks and not the video.
    """

    def __init__(self, job: Job, numbers: list[int]):
        assert job.mask is not None
        self._path, self._max_pixels, self._size = job.mask, job.max_pixels, job.settings.size
        self._stream = self._read(numbers)
        self._next: tuple[int, Any] | None = None
        self._kept: dict[int, Any] = {}
        self._error = ""
        self.written = 0

    def __enter__(self) -> "_Masks":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _read(self, numbers: list[int]) -> Generator[tuple[int, NDArray[np.uint8]], None, None]:
        if _is_picture(self._path):
            yield 0, decode_mask(read_file(self._path), str(self._path), self._max_pixels)
            return
        with open_frames(self._path, self._max_pixels) as reader:
            for number, frame in reader.frames(numbers):
                yield number, mask_of(frame, lossy=True)

    def of_frame(self, number: int) -> Any:
        """Return a frame's mask, (H, W) of zeros and ones, None where there is none; ask in ascending order."""
        from preprocessing.faces.tracking import PORTION

        while self._next is None or self._next[0] < number:
            try:
                self._next = next(self._stream, None)
            except DataError as error:
                self._error, self._next = str(error), None
            if self._next is None:
                return None
        if self._next[0] > number:
            return None
        self._kept[number] = self._next[1]
        if len(self._kept) > PORTION:
            del self._kept[min(self._kept)]
        return self._next[1]

    def cut(self, face: Any) -> NDArray[np.uint8] | None:
        """Return the mask of a face that was found in the frames asked for last, cut like the face: 0 or 255."""
        from preprocessing.faces.alignment import warp_image

        mask = self._kept.get(face.frame)
        if mask is None:
            return None
        self.written += 1
        matrix = face.matrix.copy()
        matrix[:, :2] *= face.frame_size[1] / mask.shape[1], face.frame_size[0] / mask.shape[0]
        warped = warp_image(mask * np.uint8(255), matrix, self._size)
        return np.where(warped >= MASK_FLOOR, 255, 0).astype(np.uint8)

    def touches(self, face: Any) -> bool | None:
        """Tell whether the mask of the face's frame, asked for last, marks it; None where that marks nothing at all."""
        from preprocessing.faces.tracking import touched

        mask = self._kept.get(face.frame)
        return None if mask is None or not mask.any() else touched(face.box, mask, face.frame_size)

    def missing(self, faces: int) -> str:
        """Return what went wrong, else nothing."""
        if self._error:
            return f"mask: {self._error}"
        return "" if self.written == faces else f"mask: only {self.written} of {faces} faces have one in {self._path}"


class _Products:
    """The folders of one video, hidden until `publish`: in them a folder by the number of each person."""

    def __init__(self, job: Job):
        self._homes = {kind: job.folder / kind for kind in ("masks", "landmarks", "frames")}
        self._name = job.name
        self._hidden = {kind: home / f".{job.name}.part" for kind, home in self._homes.items()}
        self._others = job.others
        self.discard()

    def write(self, kind: str, person: int, number: int, value: NDArray) -> None:
        """Write frame `number`'s crop (RGB), landmarks or mask of a person, from 0."""
        import cv2

        folder = self._hidden[kind] / str(person)
        folder.mkdir(parents=True, exist_ok=True)
        # Bytes first: what NumPy writes itself fails on a full disk without saying that it is full.
        if kind == "landmarks":
            landmarks = io.BytesIO()
            np.save(landmarks, value)
            (folder / f"{number:03d}.npy").write_bytes(landmarks.getvalue())
            return
        pixels = cv2.cvtColor(value, cv2.COLOR_RGB2BGR) if value.ndim == 3 else value
        coded, data = cv2.imencode(".png", pixels)
        if not coded:
            raise DataError(f"cannot encode frame {number} as PNG")
        (folder / f"{number:03d}.png").write_bytes(data.tobytes())

    def publish(self, people: list[int]) -> None:
        """Rename these people's folders into place, the first one's frames last: where they are, everything is.

        What was there before goes, people of whom there are no more included.
        """
        shutil.rmtree(self._homes["frames"] / self._name, ignore_errors=True)
        for name in reversed(self._there()):
            for home in self._homes.values():
                shutil.rmtree(home / name, ignore_errors=True)
        for place, person in reversed(list(enumerate(people, 1))):
            for kind, home in self._homes.items():
                written = self._hidden[kind] / str(person)
                if written.is_dir():
                    written.rename(home / person_name(self._name, place))

    def _there(self) -> list[str]:
        """Return the names under which this video's people may have folders here; their numbers have no gap."""
        names, place = [self._name], 2
        while any((home / person_name(self._name, place)).is_dir() for home in self._homes.values()):
            names.append(person_name(self._name, place))
            place += 1
        return [name for name in names if name not in self._others]

    def discard(self) -> None:
        """Remove what is half-written."""
        for hidden in self._hidden.values():
            shutil.rmtree(hidden, ignore_errors=True)
