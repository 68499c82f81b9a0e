"""Train every variant of a detector with several seeds and say what each part is worth.

    python analysis/ablation.py analysis/ablation.yaml --out logs/ablation

A run is <out>/<variant>/seed<n>; one that has its results is not run again, one that was cut off goes on from its last
checkpoint. Another call of the same command finishes what is missing and makes the tables anew: ablation_<level>.csv, .md, .tex,
.html and the figure; the reports of the full model's runs show them too.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.reporting.sheet import Sheet, to_markdown, write_csv, write_sheet
from analysis.reproduction.jobs import Job, run_missing
from common.cli import MOST_SEED, add_common, add_set, run, whole
from common.errors import ConfigError, DataError

FULL = "full"
FIELDS = ("variant", "dataset", "level", "seeds", "mean", "deviation", "difference", "p")
AVERAGE = "average of test sets"


@dataclass
class Plan:
    """What an ablation YAML says: the detector's YAML, seeds, overrides of all runs, and overrides by variant."""

    detector: str
    seeds: list[int]
    variants: dict[str, list[str]]
    common: list[str] = field(default_factory=list)

    def keep(self, names: Sequence[str]) -> None:
        """Leave out all variants but `full` and those named; ConfigError names one that there is not."""
        for name in names:
            if name not in self.variants:
                raise ConfigError(f"the plan has no variant `{name}`; it has {', '.join(self.variants)}")
        self.variants = {name: self.variants[name] for name in self.variants if name in (FULL, *names)}


def read_plan(path: Path) -> Plan:
    """Read and check an ablation YAML.

    Raises:
        ConfigError: it is missing, not YAML, lacks a key, has an unknown one, or has no variant `full`.
    """
    from common.yaml_source import read_plain

    try:
        content = read_plain(path)
    except FileNotFoundError as error:
        raise ConfigError(f"no such file: {path}") from error
    keys = {"detector", "seeds", "variants", "set"}
    if not isinstance(content, dict) or not {"detector", "seeds", "variants"} <= set(content) <= keys:
        raise ConfigError(f"{path} must have the keys detector, seeds, variants and, where wanted, set; no others")
    plan = Plan(content["detector"], content["seeds"], content["variants"], content.get("set") or [])
    overrides = [plan.common, *plan.variants.values()] if isinstance(plan.variants, dict) else []
    if not overrides or not all(
        isinstance(o, list) and all(isinstance(text, str) and "=" in text for text in o) for o in overrides
    ):
        raise ConfigError(f"{path}: `set` and every variant must be a list of key=value texts")
    if not isinstance(plan.seeds, list) or not plan.seeds or not all(isinstance(seed, int) for seed in plan.seeds):
        raise ConfigError(f"{path}: `seeds` must be a list of whole numbers")
    if FULL not in plan.variants:
        raise ConfigError(f"{path}: `variants` needs one named `{FULL}`, to which the others are compared")
    folders = [folder_name(variant) for variant in plan.variants]
    if len(set(folders)) != len(folders):
        raise ConfigError(f"{path}: two variants would share a folder; their names must differ in letters or digits")
    return plan


def folder_name(variant: str) -> str:
    """Return a variant's folder: `no Freq-Adapter` is `no_freq_adapter`."""
    return re.sub(r"[^a-z0-9]+", "_", variant.lower()).strip("_")


def jobs_of(plan: Plan, out: Path) -> list[Job]:
    """Return the runs of a plan: all seeds of the first variant, then of the next."""
    return [
        Job(variant, plan.detector, seed, (*plan.common, *overrides), out / folder_name(variant) / f"seed{seed}")
        for variant, overrides in plan.variants.items()
        for seed in plan.seeds
    ]


def common_figures(jobs: Sequence[Job]) -> list[tuple[str, dict[str, dict]]]:
    """Return each job's title and its metrics on the test sets that all runs have.

    Others (one run was tested on some more, say, or they hold one class only and have no AUC) are named and left out.

    Raises:
        DataError: there is no such test set.
    """
    from common.rundir import has_auc, open_run

    runs = [(job.title, open_run(job.run_dir).datasets) for job in jobs]
    names = list(dict.fromkeys(name for _, datasets in runs for name in datasets))
    everywhere = [name for name in names if all(name in datasets for _, datasets in runs)]
    common = [name for name in everywhere if all(has_auc(datasets[name]) for _, datasets in runs)]
    titles = ", ".join(dict.fromkeys(job.title for job in jobs))
    if not everywhere:
        raise DataError(f"no test set is common to all runs of {titles}")
    if not common:
        raise DataError(
            f"the test sets of {titles} hold one class only, and have no AUC to compare: {', '.join(everywhere)}"
        )
    if len(everywhere) < len(names):
        print(
            f"left out, because not every run was tested on them: {', '.join(n for n in names if n not in everywhere)}"
        )
    if len(common) < len(everywhere):
        print(f"left out, because they hold one class only: {', '.join(n for n in everywhere if n not in common)}")
    return [(title, {name: datasets[name] for name in common}) for title, datasets in runs]


def figures_of(
    runs: Sequence[tuple[str, dict[str, dict]]], level: str, metric: str = "auc"
) -> dict[str, dict[str, list[float]]]:
    """Return title → test set (and the average over them) → a figure per seed, in the order of the runs."""
    found: dict[str, dict[str, list[float]]] = {}
    for title, datasets in runs:
        values = {name: metrics[level][metric]["value"] for name, metrics in datasets.items()}
        if len(values) > 1:
            values[AVERAGE] = sum(values.values()) / len(values)
        for name, value in values.items():
            found.setdefault(title, {}).setdefault(name, []).append(value)
    return found


def paired_p(values: Sequence[float], full: Sequence[float]) -> float | None:
    """Return the two-sided p of a paired t-test over seeds; None with fewer than two seeds, 1 when nothing differs."""
    import numpy as np
    from scipy.stats import ttest_rel

    if len(values) < 2:
        return None
    difference = np.subtract(values, full)
    if np.ptp(difference) < 1e-12:
        return 1.0 if abs(difference[0]) < 1e-12 else 0.0
    return float(ttest_rel(values, full).pvalue)


def summarise(figures: dict[str, dict[str, list[float]]], level: str) -> list[dict[str, Any]]:
    """Return mean, deviation over seeds, and the difference to `full` with its p-value, per variant and test set."""
    import statistics

    rows = []
    for variant, datasets in figures.items():
        for dataset, values in datasets.items():
            full = figures[FULL][dataset]
            rows.append(
                {
                    "variant": variant,
                    "dataset": dataset,
                    "level": level,
                    "seeds": len(values),
                    "mean": statistics.fmean(values),
                    "deviation": statistics.stdev(values) if len(values) > 1 else None,
                    "difference": statistics.fmean(values) - statistics.fmean(full),
                    "p": None if variant == FULL else paired_p(values, full),
                }
            )
    return rows


def sheet(rows: list[dict[str, Any]]) -> Sheet:
    """Return the table: a line per variant, a column per test set with mean ± deviation (difference, p)."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        cells = [variant]
        for row in (r for r in rows if r["variant"] == variant):
            text = f"{row['mean']:.4f}" + (f" ± {row['deviation']:.4f}" if row["deviation"] is not None else "")
            if variant != FULL:
                text += (
                    f" ({row['difference']:+.4f}"
                    + ("" if row["p"] is None else f", p {row['p']:.2g}" if row["p"] >= 1e-4 else ", p < 1e-4")
                    + ")"
                )
            cells.append(text)
        lines.append(cells)
    level, seeds = rows[0]["level"], rows[0]["seeds"]
    note = f"{level.capitalize()} AUC; in brackets the difference to the full model. "
    if seeds > 1:
        note += f"Mean ± deviation over {seeds} seeds; p of a paired t-test over seeds, not corrected for the number of variants."
    else:
        note += "One seed only: how far a figure moves from seed to seed is not known, so no difference here is established."
    return Sheet(f"Ablation, {level} level", note, ["Variant", *datasets], lines)


def draw(rows: list[dict[str, Any]], stem: Path) -> list[Path]:
    """Draw the difference to the full model, averaged over test sets, a bar per variant."""
    from common import style

    names = {row["dataset"] for row in rows}
    shown = [r for r in rows if r["variant"] != FULL and (len(names) == 1 or r["dataset"] == AVERAGE)]
    with style.figure(5.4, 0.9 + 0.27 * max(1, len(shown))) as (drawing, axes):
        places = range(len(shown))
        colours = [style.FAKE if row["difference"] < 0 else style.PALETTE[2] for row in shown]
        axes.barh(places, [row["difference"] for row in shown], color=colours, height=0.65)
        axes.errorbar(
            [r["difference"] for r in shown],
            places,
            xerr=[r["deviation"] or 0 for r in shown],
            fmt="none",
            ecolor="#444444",
            capsize=2,
            linewidth=1,
        )
        axes.axvline(0, color="#444444", linewidth=0.8)
        axes.set_yticks(places, [row["variant"] for row in shown])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(
            xlabel=f"{rows[0]['level'].capitalize()} AUC less the full model's (bars: deviation over seeds)",
            title="Ablation",
        )
        return style.save(drawing, stem)


def write_tables(jobs: Sequence[Job], out: Path) -> list[Path]:
    """Write ablation_<level>.csv, .md, .tex, .html, .png and .pdf from the runs' results; return their paths.

    The runs of the full model get a section for their reports.
    """
    from analysis.reporting.sections import Section, publish

    written, runs = [], common_figures(jobs)
    for level in ("frame", "video"):
        rows = summarise(figures_of(runs, level), level)
        table = sheet(rows)
        written += [write_csv(rows, FIELDS, out / f"ablation_{level}.csv")]
        written += write_sheet(table, out, f"ablation_{level}")
        several = len({job.title for job in jobs}) > 1
        figures = draw(rows, out / f"ablation_{level}") if several else []
        written += figures
        section = Section(table.title, table.caption, columns=table.columns, rows=table.rows)
        section.captions = ["Difference to the full model's AUC"] if several else []
        publish([job.run_dir for job in jobs if job.title == FULL], f"ablation_{level}", section, figures)
        print(to_markdown(table))
    return written


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "plan",
        nargs="?",
        default=str(Path(__file__).parent / "ablation.yaml"),
        metavar="YAML",
        help="variants (default: analysis/ablation.yaml)",
    )
    parser.add_argument("--out", default="logs/ablation", metavar="DIR", help="default: logs/ablation")
    add_set(parser, "an override for every run")
    parser.add_argument("--seeds", nargs="+", type=whole(0, MOST_SEED), help="instead of the plan's")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help=f"these variants (and `{FULL}`) only")
    parser.add_argument("--detector_path", metavar="YAML", help="instead of the plan's")
    parser.add_argument("--device", metavar="cpu|cuda", help="default: a GPU where there is one")
    parser.add_argument(
        "--gpus", type=whole(1), default=1, metavar="N", help="processes a run, one GPU each (default 1)"
    )
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    plan = read_plan(Path(arguments.plan))
    plan.common = [*plan.common, *arguments.set]
    plan.seeds = arguments.seeds or plan.seeds
    plan.detector = arguments.detector_path or plan.detector
    if arguments.only:
        plan.keep(arguments.only)
    out = Path(arguments.out)
    jobs = jobs_of(plan, out)
    run_missing(jobs, arguments.device, arguments.gpus)
    write_tables(jobs, out)
    from analysis.report import refresh_reports

    refresh_reports([job.run_dir for job in jobs if job.title == FULL])
    return 0


if __name__ == "__main__":
    run(main)
