"""Read what a run left behind: results, predictions, features, training history. Nothing here needs torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError
from common.io import read_json
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


class Run:
    """A run directory, read lazily.

    Attributes:
        path: the directory. name: the last parts of its path, for tables.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise DataError(f"no such run directory: {path}")
        self._predictions: dict[str, Predictions] = {}

    @cached_property
    def summary(self) -> dict:
        """The content of results.json."""
        path = self.path / "results" / "results.json"
        if not path.exists():
            raise DataError(f"{self.path} holds no results (results/results.json); run training/test.py on it first")
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("datasets"), dict):
            raise DataError(
                f"{self.path}/results/results.json has no `datasets`; run training/test.py on this run again"
            )
        return content

    @property
    def detector(self) -> str:
        """Name of the detector."""
        return str(self.summary.get("detector", self.path.name))

    @property
    def datasets(self) -> dict[str, dict]:
        """Dataset → content of its metrics.json, in the order of testing."""
        return self.summary["datasets"]

    @property
    def data_note(self) -> str | None:
        """A sentence on the nature of the training data, where the run carries one; `about_training` says it as that."""
        return self.summary.get("data_note")

    def folder(self, dataset: str) -> Path:
        """Where the files of one test set are."""
        return self.path / "results" / dataset

    def predictions(self, dataset: str) -> Predictions:
        """Return the predictions of one test set; DataError when there are none."""
        if dataset not in self._predictions:
            self._predictions[dataset] = read_predictions(self.folder(dataset) / "predictions.csv")
        return self._predictions[dataset]

    def features(self, dataset: str) -> dict[str, NDArray]:
        """Return the arrays of features.npz: feat `(N, D)`, label, method, target_id, source_id, video, frame."""
        path = self.folder(dataset) / "features.npz"
        if not path.exists():
            raise DataError(f"no such file: {path}; test the run again without --no-save_feat")
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"cannot read {path}: {error}; test the run again") from error

    def history(self) -> list[dict]:
        """Return the lines of metrics.jsonl; a last line that a crash cut short is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        entries = []
        for number, line in enumerate(lines, 1):
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number < len(lines):
                    raise DataError(f"{path}, line {number}: {error.msg}; remove that line") from error
        return entries

    def config_text(self) -> str | None:
        """Return config.yaml as it stands, None when there is none."""
        path = self.path / "config.yaml"
        return path.read_text(encoding="utf-8") if path.exists() else None


def has_auc(metrics: dict) -> bool:
    """Return whether a test set, by its metrics.json, has both classes and so an AUC."""
    return metrics["frame"]["auc"]["value"] is not None


def unique_names(runs: Iterable[Run], given: list[str] | None = None) -> list[str]:
    """Return a name per run: the given ones, else the detector, with the directory's name where two would be equal."""
    runs = list(runs)
    if given:
        if len(given) != len(runs) or len(set(given)) != len(given):
            raise DataError(f"--names needs {len(runs)} different names, one a run, not {given}")
        return given
    detectors = [run.detector for run in runs]
    return [
        name if detectors.count(name) == 1 else f"{name} ({run.path.resolve().name})"
        for name, run in zip(detectors, runs)
    ]
