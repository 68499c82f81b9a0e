"""From faces to a verdict, whatever computes the scores: a detector (`Predictor`) or an exported graph. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.means import mean_score
from common.rendered import REASON, is_rendered, trained_on_rendered
from common.wording import about_training
from prediction.sight import Seen, Sight
from prediction.verdict import EVIDENCE, FrameScore, Person, Verdict

if TYPE_CHECKING:
    from prediction.operating_point import OperatingPoint
    from preprocessing.faces.pipeline import Face


class Judge:
    """Looks at files and judges them. A subclass has `probabilities`, and says what the network takes.

    Attributes:
        name: the detector's. weights: where they are from. sight: finds the faces.
        points: by level (`video`, `frame`) the operating point. remark: what of a stored one is not used, and why; else empty.
        trained_on: names of the datasets, empty where the weights do not say. data_note: a sentence on them, or None.
        resolution: side of the network's input. clip_size: faces of a clip; None for images. batch_size: at once.
        rendered_files: whether the files at hand are taken for rendered ones; None goes by the folder.
    """

    name: str
    weights: str | Path
    sight: Sight
    points: dict[str, OperatingPoint]
    remark: str = ""
    trained_on: list[str]
    data_note: str | None = None
    rendered_files: bool | None = None

    @property
    def resolution(self) -> int:
        raise NotImplementedError

    @property
    def clip_size(self) -> int | None:
        raise NotImplementedError

    @property
    def batch_size(self) -> int:
        raise NotImplementedError

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the fake probability `(N,)` of images `(N, 3, H, W)` or clips `(N, T, 3, H, W)` of the network's size."""
        raise NotImplementedError

    def heat(self, crop: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """Return where an image `(H, W, 3)` of the network's size speaks for fake, `(H, W)` in [0, 1]; None: unknown."""
        return None

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
        """The face pipeline."""
        return self.sight.faces

    def predict(self, path: str | Path, num_frames: int = 32) -> Verdict:
        """Judge a picture or a video file, told apart by the name's ending.

        Raises:
            DataError: the file is missing, unreadable, or shorter than the clips of a video detector.
        """
        return self._one(self.sight.look(path, num_frames))

    def predict_image(self, image: str | Path | NDArray[np.uint8]) -> Verdict:
        """Judge the faces of a picture, first the largest: a file, or an RGB array `(H, W, 3)` uint8.

        Raises:
            DataError: the file is missing or unreadable, or the array is no RGB picture.
        """
        return self._one(self.sight.picture(image))

    def predict_video(self, path: str | Path, num_frames: int = 32) -> Verdict:
        """Judge the people in `num_frames` frames spread over a video, each followed alone; a score is the mean of the frames.

        Raises:
            DataError: the file is missing or unreadable, or shows fewer faces than a video detector's clip has.
        """
        return self._one(self.sight.video(path, num_frames))

    def _one(self, seen: Seen) -> Verdict:
        (found,) = self.judge([seen])
        if isinstance(found, DataError):
            raise found
        return found

    def judge(self, files: Sequence[Seen]) -> list[Verdict | DataError]:
        """Judge what several files show, their faces scored together, batch by batch; an error is one of its file alone."""
        found: list[Verdict | DataError] = []
        cuts: list[list[list[list[Face]]]] = []  # per file and person: what is scored, each a list of faces
        for seen in files:
            try:
                cuts.append(self._cut(seen))
            except DataError as error:
                cuts.append([])
                found.append(error)
            else:
                found.append(Verdict(seen.path, None, looked=seen.looked, **vars(self.points[seen.level])))
        crops = [np.stack([face.crop for face in part]) for file in cuts for person in file for part in person]
        length = self.clip_size
        probs = iter(self.score(np.stack(crops) if length else np.concatenate(crops)).tolist() if crops else ())
        for place, (seen, file) in enumerate(zip(files, cuts, strict=True)):
            empty = found[place]
            if isinstance(empty, DataError):
                continue
            scores = [[_score(seen, part, next(probs)) for part in person] for person in file]
            reason = self.reason(seen) if file else ""
            told: dict[str, Any] = {
                "damage": seen.damage,
                "finder": seen.finder,
                "finder_note": seen.finder_note,
                "reason": reason,
            }
            found[place] = self._told(replace(empty, **told), scores)
        return found

    def _told(self, empty: Verdict, scores: list[list[FrameScore]]) -> Verdict:
        if not scores:
            return empty
        means = [mean_score(np.array([score.prob for score in each])) for each in scores]
        people = [Person(mean, empty.side_of(mean), each) for mean, each in zip(means, scores, strict=True)]
        return replace(empty, prob=means[0], scores=scores[0], people=people)

    def _cut(self, seen: Seen) -> list[list[list[Face]]]:
        """Return, by person, the single faces or the clips that are scored."""
        from training.dataset.sampling import spread_clips

        length = self.clip_size
        if not length or not seen.people:
            return [[[face] for face in faces] for faces in seen.people]
        if seen.level == "frame":
            raise DataError(f"{seen.path} is one picture, but {self.name} judges clips of {length}; give it a video")
        first = seen.people[0]
        if len(first) < length:
            raise DataError(
                f"{seen.path} shows {len(first)} faces, but {self.name} judges clips of {length}; look at more frames"
            )
        cut = []
        for faces in seen.people:
            if len(faces) >= length:  # somebody beside the first may be seen too briefly for a clip
                starts = spread_clips(np.array([len(faces)]), len(faces), length)[1]
                cut.append([faces[start : start + length] for start in starts])
        return cut

    def score(self, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the fake probability of aligned RGB faces `(N, H, W, 3)` uint8 of any size, or of clips `(N, T, H, W, 3)`."""
        size = self.resolution
        flat = [resized(crop, size).transpose(2, 0, 1) for crop in crops.reshape(-1, *crops.shape[-3:])]
        return self.probabilities(np.stack(flat).reshape(*crops.shape[:-3], 3, size, size))

    def reason(self, seen: Seen) -> str:
        """Return why nothing can be said of a file, whatever its scores; empty where something can."""
        if not trained_on_rendered(self.trained_on, self.data_note):
            return ""
        rendered = is_rendered(seen.path) if self.rendered_files is None else self.rendered_files
        return "" if rendered else REASON

    def describe(self) -> str:
        """Return which detector it is, trained on what, with which thresholds, and what they cost."""
        origin = "; ".join(point.describe() for point in self.points.values())
        said = [f"{self.name} ({self.weights}), trained on {self.training_data()}; threshold {origin}."]
        said += [f"{self.remark[0].upper()}{self.remark[1:]}."] if self.remark else []
        return " ".join([*said, about_training(self.data_note)]).rstrip()

    def training_data(self) -> str:
        """Return the names of the datasets that it was trained on, or that they are unknown."""
        return ", ".join(self.trained_on) or "data that its weight file does not name"

    def about(self) -> dict[str, Any]:
        """Return what every machine-readable answer says of the detector."""
        told = {"detector": self.name, "trained_on": self.trained_on, "data_note": self.data_note, "note": EVIDENCE}
        return told | {"weights": str(self.weights)}


def resized(crop: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return an image `(H, W, 3)` as training brings it to `size` pixels square."""
    from training.dataset.resizing import resize

    sample: dict[str, Any] = {"image": crop}
    if crop.shape[:2] != (size, size):
        resize(sample, size)
    return sample["image"]


def _score(seen: Seen, faces: list[Face], prob: float) -> FrameScore:
    first, last = faces[0], faces[-1] if len(faces) > 1 else None
    left, top, right, bottom = (float(value) for value in first.box[:4])
    times = (seen.times.get(first.frame), None if last is None else seen.times.get(last.frame))
    return FrameScore(
        first.frame, prob, (left, top, right, bottom), times[0], None if last is None else last.frame, times[1]
    )
