"""Predictions as checked arrays, grouped by video: the common ground of all figures."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import DataError
from common.means import group_means


@dataclass(frozen=True)
class Samples:
    """Scored samples (frames, or whole videos) and the video that each belongs to.

    Attributes:
        label: bool `(N,)`, True for fake.
        prob: float64 `(N,)`, fake probability in [0, 1].
        video: int64 `(N,)`, number of the video in [0, V), in order of first appearance.
        video_label: bool `(V,)`.
        person: int64 `(V,)`, number of the person whom a video shows, from 0; a video of nobody known has a number to itself.
            None where people are not asked for.
        people: how many are known.
    """

    label: NDArray[np.bool_]
    prob: NDArray[np.float64]
    video: NDArray[np.int64]
    video_label: NDArray[np.bool_]
    person: NDArray[np.int64] | None = None
    people: int = 0

    @property
    def videos(self) -> int:
        """Number of videos."""
        return len(self.video_label)

    def by_video(self) -> "Samples":
        """Return one sample a video, scored with the mean of its frames' probabilities."""
        mean = group_means(self.video, self.prob, self.videos)
        return Samples(self.video_label, mean, np.arange(self.videos), self.video_label, self.person, self.people)

    def independent(self, fake: bool) -> int:
        """Return how many videos, or people, of a class there are to draw from."""
        videos = np.flatnonzero(self.video_label == fake)
        return len(videos if self.person is None else np.unique(self.person[videos]))

    @property
    def missing(self) -> str | None:
        """`real` or `fake` where there is no sample of it."""
        return "real" if self.label.all() else None if self.label.any() else "fake"


def _number_videos(video: Iterable) -> tuple[NDArray[np.int64], list]:
    values = video.tolist() if isinstance(video, np.ndarray) else list(video)
    numbers: dict = {}
    # A dictionary is several times faster than sorting a million strings.
    codes = np.fromiter((numbers.setdefault(value, len(numbers)) for value in values), np.int64, len(values))
    return codes, list(numbers)


def gather(
    label: ArrayLike,
    prob: ArrayLike,
    video: Iterable,
    dataset: str | None = None,
    one_class: bool = False,
    person: Iterable | None = None,
) -> Samples:
    """Check predictions and group them by video.

    Args:
        label: `(N,)`, 0 real, 1 fake.
        prob: `(N,)`, fake probability.
        video: N hashable names; frames of one video share one.
        dataset: name for the messages.
        one_class: whether samples of one class only will do.
        person: N names of the people who are shown, None or empty where unknown.

    Raises:
        DataError: nothing to evaluate, lengths differ, a label other than 0 and 1, a probability that is not a number in
            [0, 1] (names the first video), a video with both labels or two people, or one class only where that will not do.
    """
    where = f" of {dataset}" if dataset else ""
    labels, scores = np.asarray(label), np.asarray(prob, np.float64)
    codes, names = _number_videos(video)
    if not len(labels) == len(scores) == len(codes):
        raise DataError(
            f"predictions{where} do not match: {len(labels)} labels, {len(scores)} probabilities, {len(codes)} video names;"
            " each frame needs one of each"
        )
    if len(labels) == 0:
        raise DataError(f"there are no predictions{where} to evaluate; check the test split of its JSON index")
    valid = (scores >= 0) & (scores <= 1)  # False for NaN
    if not valid.all():
        first = int(np.argmin(valid))
        raise DataError(
            f"{int((~valid).sum())} predictions{where} are not probabilities, first {scores[first]} in video "
            f"{names[codes[first]]}; check the weights and the training log for a diverged loss"
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"labels{where} must be 0 (real) or 1 (fake), found {sorted(set(labels.tolist()) - {0, 1})[:3]}"
        )
    samples = _grouped(labels == 1, scores, codes, names, where)
    if samples.missing and not one_class:
        present = "fake" if samples.missing == "real" else "real"
        raise DataError(
            f"the test set{where} has {present} samples only, so AUC, EER and AP are not defined; "
            f"add {samples.missing} videos to its JSON index, or use predict.py to score videos without labels"
        )
    return samples if person is None else _with_people(samples, list(person), names, where)


def _with_people(samples: Samples, person: list, names: list, where: str) -> Samples:
    if len(person) != len(samples.video):
        raise DataError(f"predictions{where} do not match: {len(samples.video)} videos' names, {len(person)} of people")
    shown: dict[int, object] = {}
    for video, who in zip(samples.video.tolist(), person):
        if shown.setdefault(video, who) != who:
            raise DataError(f"video {names[video]}{where} shows {shown[video]} and {who}; give every video one person")
    known: dict[object, int] = {}
    for who in shown.values():
        if who not in (None, ""):
            known.setdefault(who, len(known))
    # Videos of nobody known are each a person of their own, after those who are known.
    unknown = iter(range(len(known), len(known) + samples.videos))
    numbers = [known[who] if who in known else next(unknown) for _, who in sorted(shown.items())]
    return replace(samples, person=np.array(numbers, np.int64), people=len(known))


def _grouped(
    fake: NDArray[np.bool_], scores: NDArray[np.float64], codes: NDArray[np.int64], names: list, where: str
) -> Samples:
    frames = np.bincount(codes)
    fakes = np.bincount(codes, weights=fake)
    mixed = (fakes > 0) & (fakes < frames)
    if mixed.any():
        raise DataError(
            f"video {names[int(np.argmax(mixed))]}{where} has frames of both labels; give real and fake videos different names"
        )
    return Samples(fake, scores, codes, fakes > 0)
