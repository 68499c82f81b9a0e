"""What is said of a file: scores, people, and a verdict or the reason why there is none. Without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from prediction.operating_point import UNSURE, answer, is_fake, limits_as_json
from training.metrics.selective import Limits

EVIDENCE = "A score is evidence and no proof; it is worth what the detector's figures on data like yours are worth."


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
    """One of several people in a file: mean fake probability, whether that is called fake, and the scored faces.

    `fake` is None where the detector cannot say.
    """

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
        reason: why the detector can say nothing of this file whatever it scores; empty where it can.
        remarks: sentences on how far the scores may be trusted.
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
    reason: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def answer(self) -> str | None:
        """`real`, `fake` or `cannot say`; None where the detector saw no face."""
        if self.prob is None:
            return None
        return UNSURE if self.reason else answer(self.prob, self.threshold, self.limits)

    @property
    def fake(self) -> bool | None:
        """Whether the detector calls the file fake; None where it saw no face, or cannot say."""
        return is_fake(self.answer)

    def side_of(self, prob: float) -> bool | None:
        """Return whether another score of this file, one person's, is called fake; None: cannot say."""
        return None if self.reason else is_fake(answer(prob, self.threshold, self.limits))


BEHIND = ("prob", "scores", "people")
"""What stands in JSON behind the sentence, under `without_verdict`, where the detector cannot say."""


def as_row(verdict: Verdict, about: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a verdict as JSON values, the verdict and its reason first; `about` is what is said of the detector.

    Where the detector cannot say, `prob` is None and `scores` and `people` are empty: they stand under `without_verdict`.
    """
    values = asdict(verdict)
    values["limits"] = None if verdict.limits is None else limits_as_json(verdict.limits)
    row = {"path": verdict.path, "answer": verdict.answer, "reason": verdict.reason, "fake": verdict.fake}
    if verdict.reason:
        behind = {key: values[key] for key in BEHIND}
        values |= {"prob": None, "scores": [], "people": [], "without_verdict": behind}
    return row | {key: value for key, value in values.items() if key not in row} | (about or {})


def to_json(verdicts: Sequence[Verdict], about: dict[str, Any] | None = None) -> str:
    """Return verdicts as JSON text: each with what was judged, by which threshold, and what that costs on validation."""
    return json.dumps([as_row(verdict, about) for verdict in verdicts], indent=1) + "\n"
