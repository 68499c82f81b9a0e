"""What a reproduction is made of: a YAML in `scales/` beside this file with data, detectors, seeds, and what each table shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from analysis.ablation import FULL, Plan, folder_name, jobs_of, read_plan
from analysis.reproduction.jobs import Job
from common.errors import ConfigError
from common.yaml_source import read_plain
from training.config.schema import Section
from training.dataset.perturbations import KINDS

ROOT = Path(__file__).parents[2]
SCALES = Path(__file__).parent / "scales"


class DetectorPlan(Section):
    """A detector of the tables: its YAML, from the repository's root, and overrides of its own."""

    detector_path: str
    set: list[str] = []


class RobustnessPlan(Section):
    """Which detectors, test sets (null: all) and perturbations; of several seeds the first is measured."""

    detectors: list[str] = Field(min_length=1)
    datasets: list[str] | None = None
    kinds: list[str] = list(KINDS)
    severities: list[int] = [1, 2, 3, 4, 5]


class AblationPlan(Section):
    """Variants of one of the detectors: those of an ablation YAML, or `only` some of them; its `full` is that detector."""

    detector: str
    plan: str = "analysis/ablation.yaml"
    only: list[str] | None = None


class Scale(Section):
    """A whole reproduction.

    Attributes:
        note: what the settings are, a sentence in every run of the command. prepare: the command that makes the data.
        fewest_videos: of each class that every split needs; null: about as many as are published, and 5 where that is unknown.
        set: overrides of all runs. published: show the benchmark's published figures beside ours.
        cross_domain, comparison: the detectors of the main table, and of the table with tests between them.
    """

    note: str = ""
    prepare: str | None = None
    fewest_videos: int | None = Field(None, ge=1)
    seeds: list[int] = Field(min_length=1)
    set: list[str] = []
    train_dataset: list[str] = Field(min_length=1)
    test_dataset: list[str] = Field(min_length=1)
    published: bool = False
    detectors: dict[str, DetectorPlan] = Field(min_length=1)
    cross_domain: list[str] = Field(min_length=1)
    comparison: list[str] = Field(min_length=2)
    robustness: RobustnessPlan
    ablation: AblationPlan

    @model_validator(mode="after")
    def _names_fit(self) -> Scale:
        used = [*self.cross_domain, *self.comparison, *self.robustness.detectors, self.ablation.detector]
        for name in used:
            if name not in self.detectors:
                raise ValueError(f"`{name}` is none of the detectors {', '.join(self.detectors)}")
        for name in self.robustness.datasets or []:
            if name not in self.test_dataset:
                raise ValueError(f"robustness: `{name}` is not among test_dataset")
        for kind in self.robustness.kinds:
            if kind not in KINDS:
                raise ValueError(f"robustness: there is no perturbation `{kind}`; choose from {', '.join(KINDS)}")
        if len({folder_name(name) for name in self.detectors}) < len(self.detectors):
            raise ValueError("two detectors would share a folder; their names must differ in letters or digits")
        return self

    def common(self, detector: str) -> list[str]:
        """Return the overrides of a detector's runs, weakest first."""
        data = [f"{key}={json.dumps(getattr(self, key))}" for key in ("train_dataset", "test_dataset")]
        return [*data, *self.set, *self.detectors[detector].set]

    def jobs(self, names: Sequence[str], out: Path, seeds: Sequence[int] | None = None) -> list[Job]:
        """Return the runs of some detectors, all seeds of the first one, then of the next: <out>/runs/<name>/seed<n>."""
        return [
            Job(
                name,
                str(resolve(self.detectors[name].detector_path)),
                seed,
                tuple(self.common(name)),
                out / "runs" / folder_name(name) / f"seed{seed}",
            )
            for name in names
            for seed in (seeds or self.seeds)
        ]

    def ablation_jobs(self, out: Path) -> list[Job]:
        """Return the runs of the ablation; those of `full` are the detector's own, so that no run is done twice."""
        name = self.ablation.detector
        plan = read_plan(resolve(self.ablation.plan))
        if self.ablation.only is not None:
            plan.keep(self.ablation.only)
        path = str(resolve(self.detectors[name].detector_path))
        variants = {variant: texts for variant, texts in plan.variants.items() if variant != FULL}
        full = [
            Job(FULL, job.detector, job.seed, (*job.overrides, *plan.variants[FULL]), job.run_dir)
            for job in self.jobs([name], out)
        ]
        return full + jobs_of(Plan(path, self.seeds, variants, self.common(name)), out / "runs" / "ablation")


def resolve(path: str) -> Path:
    """Return a path of a scale: as it stands where it exists from here, else from the repository's root."""
    return Path(path) if Path(path).exists() else ROOT / path


def read_scale(name: str) -> Scale:
    """Read a scale: the name of a file in `analysis/reproduction/scales/`, or a path.

    Raises:
        ConfigError: there is none, or it has unknown, missing or wrong keys.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SCALES / f"{name}.yaml"
    try:
        content = read_plain(path)
    except FileNotFoundError as error:
        known = ", ".join(sorted(found.stem for found in SCALES.glob("*.yaml")))
        raise ConfigError(f"no such scale: {path}; choose one of {known}, or give the path of a YAML file") from error
    try:
        return Scale.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path}: {where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
        ) from None
