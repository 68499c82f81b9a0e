"""Short runs of the detectors of `detectors.yaml` on the demo's faces: does every loss fall, is every term alive?

A run is a `training/train.py` of its own with the keys of `detectors.yaml`, in `logs/short/<detector>`; what is done there
already with these keys is read again, not repeated. `reference` is the mean loss over the first fifth of the steps, `ours`
over the last; beside them stand every term in the same way, a term that is none (constant or not finite), and frame AUCs. In
so few steps from random weights a network of this size learns its few training faces, not forgery: the figures say that
training works, not how good a detector is. The faces come from `make demo-data`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from analysis.reproduction.jobs import Job, run_missing
from benchmarks import row
from common.errors import DataError
from common.rundir import RunDir

SETTINGS = Path(__file__).with_suffix(".yaml")
YAMLS = Path(__file__).parents[1] / "training" / "config" / "detector"
RUNS = Path("logs") / "short"
QUICK = ("meso4",)
_LOSS = "loss/"


def short_jobs(names: Sequence[str] | None = None) -> list[Job]:
    """Return the runs of `detectors.yaml`, or those of `names`."""
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    jobs = []
    for name, own in settings["detectors"].items():
        keys = {**settings["all"], **own}
        overrides = tuple(f"{key}={json.dumps(value)}" for key, value in keys.items())
        if names is None or name in names:
            jobs.append(Job(name, str(YAMLS / f"{name}.yaml"), 1024, overrides, RUNS / name))
    return jobs


def losses(run_dir: Path) -> dict[str, np.ndarray]:
    """Return each loss of a run, step by step, `overall` first; NaN where it was not finite."""
    lines = RunDir(run_dir).history()
    # A run that was cut off and begun again has written its first steps twice.
    steps = list({line["step"]: line for line in lines if f"{_LOSS}overall" in line}.values())
    names = [key.removeprefix(_LOSS) for key in steps[0] if key.startswith(_LOSS)] if steps else []
    return {name: np.array([step[_LOSS + name] for step in steps], float) for name in names}


def fifths(values: np.ndarray) -> tuple[float, float]:
    """Return the means over the first and over the last fifth."""
    count = max(1, len(values) // 5)
    return float(values[:count].mean()), float(values[-count:].mean())


def alive(values: np.ndarray) -> bool:
    """Return whether a term is finite at every step and differs between steps."""
    return bool(np.isfinite(values).all() and np.ptp(values) > 0)


def summary(job: Job) -> dict[str, Any]:
    """Return a finished run's row."""
    terms = losses(job.run_dir)
    if not terms:
        raise DataError(f"{RunDir(job.run_dir).history_file} holds no losses; delete {job.run_dir} and run it again")
    first, last = fifths(terms["overall"])
    told = [
        f"{name} {a:.3g} → {b:.3g}" for name, (a, b) in ((n, fifths(v)) for n, v in terms.items()) if name != "overall"
    ]
    dead = [name for name, values in terms.items() if not alive(values)]
    datasets = RunDir(job.run_dir).datasets
    scores = [f"{name} {found['frame']['auc']['value']:.3f}" for name, found in datasets.items()]
    config = job.config()
    text = f"{', '.join(told)}; AUC {', '.join(scores)}; {_seconds(job.run_dir):.0f} s"
    name = f"{job.title}, {config.resolution} px, {len(terms['overall'])} × {config.train_batchSize}"
    return row(name, "loss", last, first, f"{text}; dead: {', '.join(dead)}" if dead else text)


def _seconds(run_dir: Path) -> float:
    """Return how long a run took, from its first file to its last."""
    first, last = RunDir(run_dir).config, RunDir(run_dir).results_file
    return last.stat().st_mtime - first.stat().st_mtime


def run(quick: bool = False) -> list[dict]:
    """Train what is not trained yet, on the CPU, and return a row per detector."""
    jobs = short_jobs(QUICK if quick else None)
    config = jobs[0].config()
    for name in [*config.train_dataset, *config.test_dataset]:
        index = Path(config.dataset_json_folder) / f"{name}.json"
        if not index.exists():
            raise DataError(f"no such file: {index}; `make demo-data` renders the faces that these runs are about")
    run_missing(jobs, device="cpu")
    return [summary(job) for job in jobs]
