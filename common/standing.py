"""What a test set's figures stand on, by its metrics.json: videos expected and scored, people, how what is missing counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ENOUGH = 0.99
"""Share of the expected videos below which a test set is said to be short."""
FEW = 30
"""Videos of a class below which a figure does not stand before its interval."""
HOW = {"exclude": "left out", "chance": "as a coin"}
"""How videos without a score count."""
WORDS = {
    "no_face": "without a face",
    "unreadable": "unreadable",
    "absent": "absent",
    "skipped": "skipped",
    "too_short": "too short",
    "others": "not scored by all",
}
"""Why videos have no score."""


@dataclass(frozen=True)
class Tested:
    """What a test set's figures stand on; `coverage` in metrics.json, per class.

    Attributes:
        expected: videos that there should be; None where the index tells nothing.
        scored: videos with a score. skipped: videos in the index without one, because no sample of them could be read.
            too_short: those without one because they are shorter than a clip. others: videos that were scored and yet left out of
            a comparison, because another run did not score them.
    """

    expected: int | None
    scored: int
    no_face: int | None = None
    unreadable: int | None = None
    absent: int | None = None
    skipped: int = 0
    too_short: int = 0
    others: int = 0

    def __add__(self, other: Tested) -> Tested:
        return Tested(**{key: _sum(value, vars(other)[key]) for key, value in vars(self).items()})

    def told(self) -> dict[str, int | None]:
        """Return plain values, as they stand in metrics.json."""
        return {key: value for key, value in vars(self).items() if value or key not in ("others", "too_short")}

    @property
    def missing(self) -> int:
        """How many have no score, as far as is known."""
        return self.skipped + self.too_short + self.others if self.expected is None else self.expected - self.scored

    @property
    def share(self) -> float | None:
        """Share of the expected videos that was scored."""
        return None if self.expected is None else self.scored / max(self.expected, 1)


def _sum(a: int | None, b: int | None) -> Any:
    return None if a is None or b is None else a + b


@dataclass(frozen=True)
class Standing:
    """What is known of a test set from its metrics.json.

    Attributes:
        tested: both classes together; None in a run of before there was a coverage.
        how: how missing videos count, `exclude` or `chance`.
    """

    tested: Tested | None = None
    how: str = "exclude"
    counts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> str:
        """`138/140`, or `138/unknown`."""
        scored = self.tested.scored if self.tested else self.counts["videos_real"] + self.counts["videos_fake"]
        expected = self.tested.expected if self.tested else None
        return f"{scored}/{'unknown' if expected is None else expected}"

    @property
    def cell(self) -> str:
        """`138/140, left out`: the ratio, and where videos are missing how they count."""
        short = self.tested is not None and self.tested.missing > 0
        return f"{self.ratio}, {HOW[self.how]}" if short else self.ratio

    def number(self, why: str) -> int | None:
        """Return how many videos have no score for a reason, a key of `WORDS`; None where it is unknown."""
        return None if self.tested is None else vars(self.tested)[why]

    @property
    def people(self) -> str:
        """`36 people`, `at least 36 people` where some videos tell none, or `unknown people`."""
        people = self.counts.get("people")
        if people is None:
            return "an unknown number of people"
        word = "person" if people == 1 else "people"
        return f"{'at least ' if self.counts.get('videos_of_unknown_people') else ''}{people} {word}"

    @property
    def why(self) -> str:
        """`1 without a face, 2 unreadable`: what became of the videos without a score."""
        if self.tested is None:
            return ""
        return ", ".join(f"{n} {word}" for key, word in WORDS.items() if (n := vars(self.tested)[key]))

    @property
    def text(self) -> str:
        """`138 of 140 videos (1 without a face, 1 unreadable; left out), 36 people`."""
        scored, _, expected = self.ratio.partition("/")
        missing = f" ({self.why}; {HOW[self.how]})" if self.why else ""
        number = "an unknown number of" if expected == "unknown" else expected
        return f"{scored} of {number} videos{missing}, {self.people}"


def standing(metrics: Mapping[str, Any]) -> Standing:
    """Return what a test set's figures stand on, by its metrics.json; runs of before there was a coverage tell little."""
    told = metrics.get("coverage")
    if not told:
        return Standing(counts=metrics["counts"])
    return Standing(Tested(**told["real"]) + Tested(**told["fake"]), told["missing"], metrics["counts"])


def digest_of(videos: Iterable[str]) -> str:
    """Return a digest of the videos that were scored: equal for the same ones, in any order and under any name of the dataset.

    Args:
        videos: unique names `dataset/label/…`, each once or for every frame.
    """
    names = sorted({name.partition("/")[2] for name in videos})
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def is_few(metrics: Mapping[str, Any]) -> bool:
    """Tell whether a test set has so few videos of a class that a figure must not stand before its interval."""
    counts = metrics["counts"]
    return min(counts["videos_real"], counts["videos_fake"]) < FEW
