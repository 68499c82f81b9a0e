"""Who is in a picture or a video: frames decoded, faces found, followed and aligned. Without a detector, and without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, DataError

if TYPE_CHECKING:
    from preprocessing.faces.pipeline import Face

SECOND = "mtcnn"
"""The finder that looks where HOG, of which most weights' faces are, sees nobody."""


@dataclass(frozen=True)
class Seen:
    """What a file shows.

    Attributes:
        path: the file. level: `video` or `frame`, which a picture is.
        people: the faces of each person, in order; first the one whom a verdict is about.
        looked: how many frames were looked at. damage: the decoder's complaint, else empty.
        times: frame → seconds from the first, None where the file does not tell; empty for a picture.
        finder, finder_note: as in `Verdict`.
    """

    path: str
    level: str
    people: list[list[Face]]
    looked: int
    damage: str = ""
    times: dict[int, float | None] = field(default_factory=dict)
    finder: str = ""
    finder_note: str = ""


class Sight:
    """Finds and aligns faces as for training.

    Args:
        finder: with which the weights were trained. max_pixels: above which nothing is decoded.
        faces: a `FacePipeline` of the caller's; then no other finder looks where this one sees nobody.
    """

    def __init__(self, finder: str = "hog", max_pixels: int | None = None, faces: Any = None):
        from common.images import MAX_PIXELS

        self.finder, self.max_pixels = finder, max_pixels or MAX_PIXELS
        self.given = faces is not None
        self._faces: Any = faces
        self.second: Any = None

    @property
    def faces(self) -> Any:
        """The face pipeline; built at first use, since it reads 100 MB of model."""
        if self._faces is None:
            from preprocessing.faces.detection import BY_FILE
            from preprocessing.faces.pipeline import FacePipeline

            if self.finder in BY_FILE:
                raise ConfigError(
                    f"the weights were trained on faces that {self.finder} found, whose network is a file of yours; "
                    f"give `faces=FacePipeline({self.finder!r}, detector_file=…)`"
                )
            self._faces = FacePipeline(self.finder)
        return self._faces

    def look(self, path: str | Path, num_frames: int = 32) -> Seen:
        """Look at a picture or a video, told apart by the name's ending.

        Raises:
            DataError: the file is missing or unreadable.
        """
        from preprocessing.media import is_picture

        return self.picture(path) if is_picture(path) else self.video(path, num_frames)

    def picture(self, image: str | Path | NDArray[np.uint8]) -> Seen:
        """Find everybody in a picture, first the largest: a file, or an RGB array `(H, W, 3)` uint8."""
        from common.images import read_rgb

        name = "array" if isinstance(image, np.ndarray) else str(image)
        pixels = image if isinstance(image, np.ndarray) else read_rgb(image, self.max_pixels)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise DataError(f"{name} is {pixels.dtype} of shape {pixels.shape}; give RGB of shape (H, W, 3) as uint8")

        def look(pipeline: Any) -> list[list[Face]]:
            from preprocessing.faces.tracking import everybody

            return [[pipeline.crop_box(pixels, box)] for box in everybody(pipeline.detector, pixels)]

        people, finder = self._searched(look)
        return Seen(name, "frame", people, 1, **finder)

    def video(self, path: str | Path, num_frames: int = 32) -> Seen:
        """Find the people in `num_frames` frames spread over a video, each followed alone."""
        from preprocessing.faces.tracking import track_people
        from preprocessing.video_reader import VideoReader

        with VideoReader(path, self.max_pixels) as video:
            looked = 0

            def look(pipeline: Any) -> list[list[Face]]:
                nonlocal looked
                looked = 0

                def counted() -> Iterator[tuple[int, NDArray[np.uint8]]]:
                    nonlocal looked
                    for item in video.frames(video.choose("fixed_num_frames", num_frames, 1)):
                        looked += 1
                        yield item

                return track_people(counted(), pipeline)

            people, finder = self._searched(look)
            if not looked:
                raise DataError(f"{path}: no frame could be decoded ({video.damage}); download it again")
            times = {face.frame: video.seconds(face.frame) for faces in people for face in faces}
            return Seen(str(path), "video", people, looked, video.damage or "", times, **finder)

    def _searched(self, look: Callable[[Any], list[list[Face]]]) -> tuple[list[list[Face]], dict[str, Any]]:
        """Return the faces of each person by the finder of the training, else by the other; and which it was, and why."""
        from preprocessing.faces.detection import finder_settings

        first = finder_settings(self.faces.detector)["finder"]
        people = look(self.faces)
        other = None if people else self._other_faces()
        if other is None:
            return people, {"finder": first}
        second = finder_settings(other.detector)["finder"]
        people = look(other)
        note = f"{first}, which the weights were trained with, found no face; {second} did" if people else ""
        return people, {"finder": second if people else first, "finder_note": note}

    def _other_faces(self) -> Any:
        """Return the pipeline of the finder that looks where the first sees nobody; None where the caller chose the first."""
        if self.second is None and not self.given:
            from preprocessing.faces.pipeline import FacePipeline

            self.second = FacePipeline("hog" if self.finder == SECOND else SECOND)
        return self.second
