"""The predictions of a test set as arrays. Nothing here needs torch."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.means import group_means

HEADER = ["video", "frame", "label", "method", "prob"]


@dataclass(frozen=True)
class Predictions:
    """One row a frame: `video` unicode, `frame`, `label`, `method` int64, `prob` float64, each `(N,)`."""

    video: NDArray[np.str_]
    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    method: NDArray[np.int64]
    prob: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> Predictions:
        """Return the chosen rows."""
        return Predictions(*(getattr(self, name)[chosen] for name in HEADER))

    def by_video(self) -> Predictions:
        """Return one row a video, with the mean probability of its frames; `frame` is their number."""
        names, first, code = np.unique(self.video, return_index=True, return_inverse=True)
        prob = group_means(code, self.prob, len(names))
        return Predictions(names, np.bincount(code), self.label[first], self.method[first], prob)

    @property
    def one_class(self) -> bool:
        """Whether there are fakes only, or reals only: such a set has no ROC curve and no AUC."""
        return len(np.unique(self.label)) < 2

    def groups(self) -> NDArray[np.str_]:
        """Return each row's label folder (`FF-DF`, `Celeb-real` …), the second part of the video's name."""
        parts = [name.split("/") for name in self.video.tolist()]
        return np.array([part[1] if len(part) > 2 else "" for part in parts])


def read_predictions(path: Path) -> Predictions:
    """Read a predictions.csv; DataError names the line that cannot be read."""
    columns: dict[str, list] = {name: [] for name in HEADER}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            if next(reader, None) != HEADER:
                raise DataError(f"{path} does not start with {','.join(HEADER)}; test the run again to write it anew")
            for row in reader:
                try:
                    video, frame, label, method, prob = row
                    values = (video, int(frame), int(label), int(method), float(prob))
                except ValueError as error:
                    raise DataError(f"{path}, line {reader.line_num}: {error}; test the run again") from error
                for name, value in zip(HEADER, values):
                    columns[name].append(value)
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}; run training/test.py on this run first") from error
    frames, labels, methods = (np.array(columns[name], np.int64) for name in ("frame", "label", "method"))
    return Predictions(
        np.array(columns["video"], np.str_), frames, labels, methods, np.array(columns["prob"], np.float64)
    )
