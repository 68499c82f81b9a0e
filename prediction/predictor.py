"""A trained detector for pictures and videos as they come: find the face, align it as for training, score it.

from training import Predictor
predictor = Predictor("logs/clip_crossdomain/2026-01-01-12-00-00")
verdict = predictor.predict("holiday.mp4")
verdict.prob, verdict.fake
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, DataError
from common.means import mean_score
from common.rundir import RunDir
from common.wording import about_training
from prediction.operating_point import LEVELS, OperatingPoint, answer, is_fake, limits_as_json, read_points

if TYPE_CHECKING:
    from preprocessing.faces.pipeline import Face
    from training.metrics.selective import Limits

SECOND = "mtcnn"
"""The finder that looks where HOG, of which most weights' faces are, sees nobody."""


@dataclass(frozen=True)
class FrameScore:
    """A scored face, or for a video detector the first of a clip's faces.

    Attributes:
        frame: its number in the video, or of a clip's first face; 0 for a picture.
        prob: fake probability in [0, 1].
        box: left, top, right, bottom of the face in pixels of the frame.
        time: seconds from the video's first frame; None for a picture, or where the file does not tell.
        last: number of a clip's last face; None for a single one. until: its time, as `time`.
    """

    frame: int
    prob: float
    box: tuple[float, float, float, float]
    time: float | None = None
    last: int | None = None
    until: float | None = None


@dataclass(frozen=True)
class Person:
    """One of several people in a file: mean fake probability, whether that is called fake (None: cannot say), scored faces."""

    prob: float
    fake: bool | None
    scores: list[FrameScore]


@dataclass(frozen=True)
class Verdict:
    """What the detector says of a file.

    Attributes:
        path: the file.
        prob: mean fake probability over the faces or clips of the largest person of the first frame that shows one, as in
            training; None where no face was found.
        threshold: above which `prob` is called fake, where there are no limits.
        looked: how many frames were looked at. scores: of those with a face.
        damage: the decoder's complaint where some frames could not be read, else empty.
        level: what `prob` and `threshold` are of: `video`, the mean of its frames, or `frame`, which a picture is.
        calibrated, found, false_alarms: of the threshold, as in `OperatingPoint`.
        limits: between which nothing is said, of the same level; None where the threshold decides.
        people: everybody who was followed, each scored alone; first the one whom `prob` is about.
        finder: what found the faces; `finder_note` says where that is not what the weights were trained with, else empty.
    """

    path: str
    prob: float | None
    threshold: float
    looked: int
    scores: list[FrameScore] = field(default_factory=list)
    damage: str = ""
    level: str = "video"
    calibrated: bool = False
    found: float | None = None
    false_alarms: float | None = None
    people: list[Person] = field(default_factory=list)
    finder: str = ""
    finder_note: str = ""
    limits: Limits | None = None

    @property
    def answer(self) -> str | None:
        """`real`, `fake` or `cannot say`; None where the detector saw no face."""
        return None if self.prob is None else answer(self.prob, self.threshold, self.limits)

    @property
    def fake(self) -> bool | None:
        """Whether the detector calls the file fake; None where it saw no face, or cannot say."""
        return is_fake(self.answer)


class Predictor:
    """A detector with its weights, its threshold and the face pipeline of preprocessing.

    Args:
        source: a run directory, or a detector's YAML together with `weights`.
        weights: a weight file; None takes the run's best checkpoint, else its last.
        device: `cpu` or `cuda`; None takes a GPU where there is one.
        overrides: keys of the configuration, `key=value`.
        faces: a `FacePipeline`; None builds one with the finder that the weights were trained with (`hog` where they do not
            say); where that sees nobody, another finder looks, and the verdict says so.

    Attributes:
        points: by level (`video`, `frame`) the operating point that `analysis/calibration.py` stored with the checkpoint, or
            the threshold 0.5.
        remark: what of a stored one is not used, and why; else empty.
        trained_on: names of the datasets, empty where the weights do not say.

    Raises:
        ConfigError, WeightsError: the configuration or the weights do not fit.
    """

    def __init__(
        self,
        source: str | Path,
        weights: str | Path | None = None,
        device: str | None = None,
        overrides: Sequence[str] = (),
        faces: Any = None,
    ):
        from prediction.trained import load_trained

        trained = load_trained(source, overrides, device, weights)
        self.config, self.detector, self.weights = trained.config, trained.detector, trained.weights
        # A run's settings are those of its training, other people's weights say nothing of theirs.
        training = trained.config.model_dump() if weights is None else trained.trained_with
        self.trained_on = list(training.get("train_dataset", []))
        self.data_note: str | None = training.get("data_note")
        self.points, self.remark = {level: OperatingPoint(level) for level in LEVELS}, ""
        if weights is None:
            self.points, self.remark = read_points(RunDir(trained.path).operating_point, trained.fingerprint())
        told = trained.info.crops.values() if trained.info is not None else ()
        finders = {str(crops.get("finder") or "hog") for crops in told if crops}
        self._finder = finders.pop() if len(finders) == 1 else "hog"  # several: cut in different ways
        self._faces, self._given = faces, faces is not None
        self._second: Any = None

    @property
    def threshold(self) -> float:
        """The threshold of videos."""
        return self.points["video"].threshold

    @property
    def calibrated(self) -> bool:
        """Whether the threshold of videos was chosen on validation."""
        return self.points["video"].calibrated

    @property
    def faces(self) -> Any:
        """The face pipeline; built at first use, since it reads 100 MB of model."""
        if self._faces is None:
            from preprocessing.faces.detection import BY_FILE
            from preprocessing.faces.pipeline import FacePipeline

            if self._finder in BY_FILE:
                raise ConfigError(
                    f"the weights were trained on faces that {self._finder} found, whose network is a file of yours; "
                    f"give `faces=FacePipeline({self._finder!r}, detector_file=…)`"
                )
            self._faces = FacePipeline(self._finder)
        return self._faces

    def _other_faces(self) -> Any:
        """Return the pipeline of the finder that looks where the first sees nobody; None where the caller chose the first."""
        if self._second is None and not self._given:
            from preprocessing.faces.pipeline import FacePipeline

            self._second = FacePipeline("hog" if self._finder == SECOND else SECOND)
        return self._second

    def predict(self, path: str | Path, num_frames: int = 32) -> Verdict:
        """Judge a picture or a video file, told apart by the name's ending.

        Raises:
            DataError: the file is missing, unreadable, or shorter than the clips of a video detector.
        """
        from preprocessing.layouts._base import IMAGE_SUFFIXES

        if Path(path).suffix.lower() in IMAGE_SUFFIXES:
            return self.predict_image(path)
        return self.predict_video(path, num_frames)

    def predict_image(self, image: str | Path | NDArray[np.uint8]) -> Verdict:
        """Judge the faces of a picture, first the largest: a file, or an RGB array `(H, W, 3)` uint8.

        Raises:
            DataError: the file is missing or unreadable, or the array is no RGB picture.
        """
        from common.images import read_rgb

        name = "array" if isinstance(image, np.ndarray) else str(image)
        pixels = image if isinstance(image, np.ndarray) else read_rgb(image, self.config.data.max_pixels)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise DataError(f"{name} is {pixels.dtype} of shape {pixels.shape}; give RGB of shape (H, W, 3) as uint8")

        def look(pipeline: Any) -> list[list[Face]]:
            from preprocessing.faces.tracking import everybody

            return [[pipeline.crop_box(pixels, box)] for box in everybody(pipeline.detector, pixels)]

        people, finder = self._searched(look)
        return replace(self._verdict("frame", name, people, 1), **finder)

    def predict_video(self, path: str | Path, num_frames: int = 32) -> Verdict:
        """Judge the people in `num_frames` frames spread over a video, each followed alone; a score is the mean of the frames.

        Raises:
            DataError: the file is missing or unreadable, or shows fewer faces than a video detector's clip has.
        """
        from preprocessing.faces.tracking import track_people
        from preprocessing.video_reader import VideoReader

        with VideoReader(path, self.config.data.max_pixels) as video:
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
            return replace(self._verdict("video", str(path), people, looked, video.damage or "", times), **finder)

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

    def score(self, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the fake probability of aligned RGB faces `(N, H, W, 3)` uint8 of any size, or of clips `(N, T, H, W, 3)`."""
        from prediction.trained import predict_images
        from training.dataset.recipes.recipe import resize

        size = self.config.resolution
        flat = []
        for crop in crops.reshape(-1, *crops.shape[-3:]):
            sample = {"image": crop}
            if crop.shape[:2] != (size, size):
                resize(sample, size)
            flat.append(sample["image"].transpose(2, 0, 1))
        images = np.stack(flat).reshape(*crops.shape[:-3], 3, size, size)
        return predict_images(self.detector, images, self.config.test_batchSize)

    def _verdict(
        self,
        level: str,
        name: str,
        people: list[list[Face]],
        looked: int,
        damage: str = "",
        times: Mapping[int, float | None] | None = None,
    ) -> Verdict:
        if not people:
            return Verdict(name, None, looked=looked, damage=damage, **vars(self.points[level]))
        length = (self.config.clip_size or 1) if self.config.video_mode else 1
        # Somebody beside the first may be seen too briefly for a clip.
        judged = [
            self._scored(level, name, faces, times or {})
            for faces in people[:1] + [p for p in people[1:] if len(p) >= length]
        ]
        told = vars(self.points[level])
        means = [mean_score(np.array([score.prob for score in scores])) for scores in judged]
        everyone = [
            Person(mean, is_fake(answer(mean, told["threshold"], told["limits"])), scores)
            for mean, scores in zip(means, judged, strict=True)
        ]
        return Verdict(name, means[0], looked=looked, scores=judged[0], damage=damage, people=everyone, **told)

    def _scored(self, level: str, name: str, faces: list[Face], times: Mapping[int, float | None]) -> list[FrameScore]:
        """Return the scores of one person's faces, or of the clips of them."""
        crops = np.stack([face.crop for face in faces])
        first: list[Face] = faces
        ends: Sequence[Face | None] = [None] * len(faces)
        from training.dataset.sampling import spread_clips

        length = self.config.clip_size if self.config.video_mode else None
        if length:
            if level == "frame":
                raise DataError(
                    f"{name} is one picture, but {self.detector.name} judges clips of {length}; give it a video"
                )
            starts = spread_clips(np.array([len(faces)]), len(faces), length)[1]
            if not len(starts):
                raise DataError(
                    f"{name} shows {len(faces)} faces, but {self.detector.name} judges clips of {length}; look at more frames"
                )
            crops = np.stack([crops[start : start + length] for start in starts])
            first, ends = [faces[start] for start in starts], [faces[start + length - 1] for start in starts]
        probs = self.score(crops)
        boxes = [tuple(float(value) for value in face.box[:4]) for face in first]
        return [
            FrameScore(
                face.frame,
                float(prob),
                box,  # type: ignore[arg-type]  # four numbers each
                times.get(face.frame),
                None if end is None else end.frame,
                None if end is None else times.get(end.frame),
            )
            for face, end, prob, box in zip(first, ends, probs, boxes, strict=True)
        ]

    def describe(self) -> str:
        """Return which detector it is, trained on what, with which thresholds, and what they cost."""
        data = ", ".join(self.trained_on) or "data that its weight file does not name"
        origin = "; ".join(point.describe() for point in self.points.values())
        said = [f"{self.detector.name} ({self.weights}), trained on {data}; threshold {origin}."]
        said += [f"{self.remark[0].upper()}{self.remark[1:]}."] if self.remark else []
        return " ".join([*said, about_training(self.data_note)]).rstrip()


def to_json(verdicts: Sequence[Verdict]) -> str:
    """Return verdicts as JSON text: each with what was judged, by which threshold, and what that costs on validation."""
    from dataclasses import asdict

    rows = [
        asdict(verdict)
        | {"fake": verdict.fake, "answer": verdict.answer}
        | {"limits": None if verdict.limits is None else limits_as_json(verdict.limits)}
        for verdict in verdicts
    ]
    return json.dumps(rows, indent=1) + "\n"
