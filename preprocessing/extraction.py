"""One video to its files: chosen frames, the followed face, crops, landmarks and masks.

A video's folders appear by renaming when all of their files are written, `frames/` last; a run that is killed leaves only
hidden half-written folders, which the next run removes.
"""

import io
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError, ProjectError
from common.images import read_rgb
from common.io import NO_PLACE
from preprocessing.layouts._base import IMAGE_SUFFIXES

_MASK_FLOOR = 16
"""Mask videos are lossily coded: what is darker is noise of the codec. Their shapes may be gray or coloured."""


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


@dataclass(frozen=True)
class Job:
    """A video to do: `video` and `mask` are files, products go to `folder`/{frames,landmarks,masks}/`name`."""

    key: str
    video: Path
    folder: Path
    name: str
    mask: Path | None
    settings: Settings


@dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Attributes:
        state: `done`; `partial` (some wanted frames could not be decoded, the faces of the others are there);
            `no_face`; `failed` (nothing was written).
        frames: frames looked at. faces: faces written. seconds: time taken. error: what went wrong, else empty.
        forehead: `predicted`, or `extrapolated` when the landmark file knows 68 points only.
    """

    key: str
    state: str
    frames: int = 0
    faces: int = 0
    seconds: float = 0.0
    error: str = ""
    forehead: str = ""


def process_video(job: Job) -> Outcome:
    """Do one video; never raises for what the video's file is to blame for."""
    start = perf_counter()
    try:
        outcome = _process(job)
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


def _process(job: Job) -> Outcome:
    from preprocessing.faces.tracking import track_faces

    pipeline = _pipeline(job.settings.detector, job.settings.predictor, job.settings.size, job.settings.scale)
    looked, faces = 0, 0
    with ExitStack() as stack:
        reader = stack.enter_context(open_frames(job.video))
        numbers = reader.choose(job.settings.mode, job.settings.num_frames, job.settings.stride)

        def counted() -> Iterator[tuple[int, NDArray[np.uint8]]]:
            nonlocal looked
            for item in reader.frames(numbers):
                looked += 1
                yield item

        products = _Products(job)
        stack.callback(products.discard)
        matrices: dict[int, NDArray] = {}
        for face in track_faces(counted(), pipeline):
            products.write("frames", face.frame, face.crop)
            products.write("landmarks", face.frame, face.landmarks)
            matrices[face.frame] = face.matrix
            faces += 1
        damage = reader.damage or ""
        if faces and job.mask is not None:
            damage = damage or _write_masks(job.mask, matrices, job.settings.size, products)
        if faces:
            products.publish()
    if looked == 0:
        return Outcome(job.key, "failed", error=damage or "no frame could be decoded")
    state = "no_face" if not faces else "partial" if damage else "done"
    forehead = "extrapolated" if pipeline.landmarks.extrapolated else "predicted"
    return Outcome(job.key, state, looked, faces, error=damage, forehead=forehead)


@lru_cache(maxsize=2)
def _pipeline(detector: str, predictor: str | None, size: int, scale: float) -> Any:
    """Models are read once a process."""
    import cv2

    from preprocessing.faces.pipeline import FacePipeline

    cv2.setNumThreads(1)  # one process per core already
    return FacePipeline(detector, predictor, size, scale)


class _Picture:
    """An image file, read like a video of one frame."""

    def __init__(self, path: Path):
        self.path, self.damage = path, None

    def __enter__(self) -> "_Picture":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def choose(self, mode: str, num_frames: int, stride: int) -> list[int]:
        return [0]

    def frames(self, numbers: Any) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        yield 0, read_rgb(self.path)


def open_frames(path: Path) -> Any:
    """Return a reader of a video, or of a picture as a video of one frame."""
    from preprocessing.video_reader import VideoReader

    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _Picture(path)
    return VideoReader(path)


def _write_masks(path: Path, matrices: dict[int, NDArray], size: int, products: "_Products") -> str:
    """Cut each mask with its frame's matrix; return what went wrong, else nothing."""
    from preprocessing.faces.alignment import warp_image

    written = 0
    try:
        with open_frames(path) as reader:
            for number, mask in reader.frames(list(matrices)):
                warped = warp_image(np.ascontiguousarray(mask.max(axis=2)), matrices[number], size)
                products.write("masks", number, np.where(warped >= _MASK_FLOOR, 255, 0).astype(np.uint8))
                written += 1
    except DataError as error:
        return f"mask: {error}"
    return "" if written == len(matrices) else f"mask: only {written} of {len(matrices)} frames in {path}"


class _Products:
    """The folders of one video, hidden until `publish`."""

    def __init__(self, job: Job):
        self._final = {kind: job.folder / kind / job.name for kind in ("masks", "landmarks", "frames")}
        self._hidden = {kind: path.with_name(f".{path.name}.part") for kind, path in self._final.items()}
        self.discard()

    def write(self, kind: str, number: int, value: NDArray) -> None:
        """Write frame `number`'s crop (RGB), landmarks or mask."""
        import cv2

        folder = self._hidden[kind]
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

    def publish(self) -> None:
        """Rename the folders into place, frames last: where they are, everything is."""
        shutil.rmtree(self._final["frames"], ignore_errors=True)
        for kind, final in self._final.items():
            shutil.rmtree(final, ignore_errors=True)
            if self._hidden[kind].is_dir():
                self._hidden[kind].rename(final)

    def discard(self) -> None:
        """Remove what is half-written."""
        for hidden in self._hidden.values():
            shutil.rmtree(hidden, ignore_errors=True)
