"""The run directory: one folder that holds everything about a run, and that only one run writes at a time.

    config.yaml  train.log  test.log  metrics.jsonl  tensorboard/  report.html  bad_batch.json
    checkpoints/{last,best}.pth  checkpoints/operating_point.json
    results/results.json  results/<dataset>/{metrics.json, predictions.csv, features.npz, skipped.txt, too_short.txt, examples.*}
    analysis/<tool>/section.json and what belongs to it

Nothing here needs torch or knows the configuration's keys.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Container, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import DataError, ProjectError, WeightsError
from common.io import atomic_write, read_json, remove_abandoned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from common.predictions import Predictions


class TestFiles:
    """What a run holds of one test set."""

    __test__ = False  # of pytest's business it is none

    def __init__(self, folder: Path):
        self.folder = folder
        self.metrics, self.predictions = folder / "metrics.json", folder / "predictions.csv"
        self.features, self.skipped = folder / "features.npz", folder / "skipped.txt"
        self.too_short = folder / "too_short.txt"
        self.examples, self.captions = folder / "examples.png", folder / "examples.json"

    def remove(self) -> None:
        """Remove what a former test left, metrics.json first: a folder without it tells of no test."""
        for path in (
            self.metrics,
            self.predictions,
            self.skipped,
            self.too_short,
            self.features,
            self.captions,
            self.examples,
        ):
            path.unlink(missing_ok=True)


class RunDir:
    """The places inside a run directory, the right to write there, and what a run left behind, read when asked for."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._lock: int | None = None
        self._predictions: dict[str, Predictions] = {}

    @property
    def config(self) -> Path:
        """The effective configuration."""
        return self.path / "config.yaml"

    @property
    def history_file(self) -> Path:
        """The numbers of training, a JSON line each."""
        return self.path / "metrics.jsonl"

    @property
    def board(self) -> Path:
        """TensorBoard's folder."""
        return self.path / "tensorboard"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def bad_batch(self) -> Path:
        """The videos of a batch whose loss was not finite."""
        return self.path / "bad_batch.json"

    def log_file(self, program: str) -> Path:
        """What a program (`train`, `test`) said."""
        return self.path / f"{program}.log"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.pth"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.pth"

    @property
    def set_aside(self) -> Path:
        """Best weights of a course of the training that was left, until there are new ones."""
        return self.checkpoints / "best.aside.pth"

    @property
    def operating_point(self) -> Path:
        """Threshold and temperature that belong to the checkpoint."""
        return self.checkpoints / "operating_point.json"

    @property
    def weights(self) -> Path | None:
        """The run's result: its best checkpoint, else its last; None where it kept none."""
        return next((path for path in (self.best, self.last) if path.exists()), None)

    def kept_weights(self) -> Path:
        """Return `weights`; WeightsError where there are none."""
        if self.weights is None:
            raise WeightsError(
                f"{self.path} keeps no checkpoint (checkpoints/best.pth or last.pth); train it with save_ckpt"
            )
        return self.weights

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def results_file(self) -> Path:
        """The metrics of all test sets, and of what weights they are."""
        return self.results / "results.json"

    def of(self, dataset: str) -> TestFiles:
        """Return the files of one test set."""
        return TestFiles(self.results / dataset)

    def analysis(self, tool: str) -> Path:
        """Where an analysis tool writes."""
        return self.path / "analysis" / tool

    def sections(self) -> list[Path]:
        """Return the report sections that tools left, sorted by tool."""
        return sorted((self.path / "analysis").glob("*/section.json"))

    def remove_tests(self, keep: Container[str] = ()) -> None:
        """Remove the files of every test set but those to `keep`, and their folders where nothing else is left."""
        for path in sorted(self.results.glob("*/metrics.json")):
            if path.parent.name not in keep:
                TestFiles(path.parent).remove()
                with suppress(OSError):  # it holds files of the user's own
                    path.parent.rmdir()

    def take(self) -> None:
        """Make the directory and hold it until this process ends; what a killed run was just writing there is removed.

        Raises:
            ProjectError: it cannot be written, or another run is writing there now.
        """
        import fcntl

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise ProjectError(
                f"cannot write the run directory {self.path}: {error.strerror}; choose another one with --log_dir"
            ) from error
        try:
            # The kernel frees the lock with the process, however it ends; a stale file never blocks anybody. It is a record
            # lock, which data-loading workers do not inherit: those outlive a killed run by some seconds.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = None
            raise ProjectError(
                f"another run is writing {self.path} now; wait for it or choose another one with --log_dir"
            ) from error
        for folder in (self.path, self.last.parent, self.results, *self.results.glob("*/")):
            remove_abandoned(folder)

    def release(self) -> None:
        """Let others write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_config(self, text: str) -> None:
        """Keep the effective configuration, as YAML."""
        atomic_write(self.config, text)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of results.json."""
        if not self.results_file.exists():
            raise DataError(f"{self.path} holds no results (results/results.json); run training/test.py on it first")
        content = read_json(self.results_file)
        if not isinstance(content, dict) or not isinstance(content.get("datasets"), dict):
            raise DataError(f"{self.results_file} has no `datasets`; run training/test.py on this run again")
        return content

    @property
    def detector(self) -> str:
        """Name of the detector."""
        return str(self.summary.get("detector", self.path.name))

    @property
    def datasets(self) -> dict[str, dict]:
        """Dataset → content of its metrics.json, in the order of testing."""
        return self.summary["datasets"]

    def limited(self, datasets: dict[str, dict], predictions: dict[str, Predictions]) -> RunDir:
        """Return the run with other results and predictions of some test sets; nothing on disk changes."""
        other = RunDir(self.path)
        other.__dict__["summary"] = {**self.summary, "datasets": {**self.datasets, **datasets}}
        other._predictions = {**self._predictions, **predictions}
        return other

    @property
    def data_note(self) -> str | None:
        """A sentence on the nature of the training data, where the run carries one; `about_training` says it as that."""
        return self.summary.get("data_note")

    def predictions(self, dataset: str) -> Predictions:
        """Return the predictions of one test set; DataError when there are none."""
        from common.predictions import read_predictions

        if dataset not in self._predictions:
            self._predictions[dataset] = read_predictions(self.of(dataset).predictions)
        return self._predictions[dataset]

    def features(self, dataset: str) -> dict[str, NDArray]:
        """Return the arrays of features.npz: feat `(N, D)`, label, method, target_id, source_id, video, frame."""
        import numpy as np

        path = self.of(dataset).features
        if not path.exists():
            raise DataError(f"no such file: {path}; test the run again without --no-save_feat")
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"cannot read {path}: {error}; test the run again") from error

    def history(self) -> list[dict]:
        """Return the lines of metrics.jsonl; a last line that a crash cut short is left out."""
        path = self.history_file
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
        return self.config.read_text(encoding="utf-8") if self.config.exists() else None


def open_run(path: str | os.PathLike) -> RunDir:
    """Return a run directory that is there; DataError when it is not."""
    if not Path(path).is_dir():
        raise DataError(f"no such run directory: {path}")
    return RunDir(path)


def run_meant(source: str | os.PathLike) -> RunDir | None:
    """Return the run that a path means: the directory, or its config.yaml; None for any other file."""
    path = Path(source)
    if path.is_dir():
        return RunDir(path)
    run = RunDir(path.parent)
    return run if path.name == run.config.name else None


def has_auc(metrics: dict) -> bool:
    """Return whether a test set, by its metrics.json, has both classes and so an AUC."""
    return metrics["frame"]["auc"]["value"] is not None


def new_run_dir(given: str | None, parent: Path, *words: str | None) -> RunDir:
    """Return the directory that `--log_dir` names, or a fresh `<parent>/<time>_<word>_<word>…`."""
    if given:
        return RunDir(Path(given))
    stem = "_".join(part for part in (time.strftime("%Y-%m-%d-%H-%M-%S"), *words) if part)
    path, number = parent / stem, 1
    while path.exists():
        number += 1
        path = parent / f"{stem}_{number}"
    return RunDir(path)


def unique_names(runs: Iterable[RunDir], given: list[str] | None = None) -> list[str]:
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
