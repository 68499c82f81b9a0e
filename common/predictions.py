"""The predictions of a test set as arrays. Nothing here needs torch."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.means import group_means

HEADER = ["video", "frame", "label", "method", "prob"]
PERSON = "person"  # a last column, where the people are known


@dataclass(frozen=True)
class Predictions:
    """One row a frame: `video` unicode, `frame`, `label`, `method`, `person` int64, `prob` float64, each `(N,)`.

    `person` numbers whom a video shows, in a fake its target; -1 is unknown, and so is everybody in files without that column.
    """

    video: NDArray[np.str_]
    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    method: NDArray[np.int64]
    prob: NDArray[np.float64]
    person: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        if len(self.person) != len(self.video):
            object.__setattr__(self, "person", np.full(len(self.video), -1, np.int64))

    def where(self, chosen: NDArray[np.bool_]) -> Predictions:
        """Return the chosen rows."""
        return Predictions(*(getattr(self, name)[chosen] for name in (*HEADER, PERSON)))

    def by_video(self) -> Predictions:
        """Return one row a video, with the mean probability of its frames; `frame` is their number."""
        names, first, code = np.unique(self.video, return_index=True, return_inverse=True)
        prob = group_means(code, self.prob, len(names))
        return Predictions(names, np.bincount(code), self.label[first], self.method[first], prob, self.person[first])

    def people(self) -> list[int | None] | None:
        """Return each row's person, None where unknown, as metrics take them; None where nobody is known."""
        return known_people(self.person)

    @property
    def one_class(self) -> bool:
        """Whether there are fakes only, or reals only: such a set has no ROC curve and no AUC."""
        return len(np.unique(self.label)) < 2

    def groups(self) -> NDArray[np.str_]:
        """Return each row's label folder (`FF-DF`, `Celeb-real` …), the second part of the video's name."""
        return np.array(label_folders(self.video.tolist()))


def label_folders(videos: list[str]) -> list[str]:
    """Return the label folder of each video's unique name, empty where it has none."""
    parts = [name.split("/") for name in videos]
    return [part[1] if len(part) > 2 else "" for part in parts]


def known_people(person: NDArray[np.int64]) -> list[int | None] | None:
    """Return numbers of people with None in the place of -1; None where nobody is known."""
    return [None if who < 0 else who for who in person.tolist()] if (person >= 0).any() else None


def read_predictions(path: Path) -> Predictions:
    """Read a predictions.csv; DataError names the line that cannot be read."""
    columns: dict[str, list] = {name: [] for name in (*HEADER, PERSON)}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, None)
            if header not in (HEADER, [*HEADER, PERSON]):
                raise DataError(f"{path} does not start with {','.join(HEADER)}; test the run again, which writes it")
            for row in reader:
                try:
                    if len(row) != len(header):
                        raise ValueError(f"{len(row)} values in the place of {len(header)}")
                    video, frame, label, method, prob, *person = row
                    values = (video, int(frame), int(label), int(method), float(prob), int(person[0] if person else -1))
                except ValueError as error:
                    raise DataError(f"{path}, line {reader.line_num}: {error}; test the run again") from error
                for name, value in zip(columns, values):
                    columns[name].append(value)
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}; run training/test.py on this run first") from error
    frames, labels, methods, people = (np.array(columns[n], np.int64) for n in ("frame", "label", "method", PERSON))
    return Predictions(
        np.array(columns["video"], np.str_), frames, labels, methods, np.array(columns["prob"], np.float64), people
    )
