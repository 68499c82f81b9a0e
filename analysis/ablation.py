"""Train every variant of a detector with several seeds and say what each part is worth.

    python analysis/ablation.py analysis/ablation.yaml --out logs/ablation

A run is <out>/<variant>/seed<n>; one that has its results is not run again, one that was cut off goes on from its last
checkpoint. Another call of the same command finishes what is missing and makes the table anew.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.cli import add_common, run
from training.errors import ConfigError, DataError, ProjectError

ROOT = Path(__file__).parents[1]
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


def read_plan(path: Path) -> Plan:
    """Read and check an ablation YAML.

    Raises:
        ConfigError: it is missing, not YAML, lacks a key, has an unknown one, or has no variant `full`.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no such file: {path}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    keys = {"detector", "seeds", "variants", "set"}
    if not isinstance(content, dict) or not {"detector", "seeds", "variants"} <= set(content) <= keys:
        raise ConfigError(f"{path} must have the keys detector, seeds, variants and, if wished, set; no others")
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


def command(plan: Plan, variant: str, seed: int, run_dir: Path, device: str | None) -> list[str]:
    """Return the command line that trains and tests one variant."""
    line = [sys.executable, str(ROOT / "training" / "train.py"), "--detector_path", plan.detector]
    line += ["--log_dir", str(run_dir), "--seed", str(seed), "--resume", "auto"]
    for text in [*plan.common, *plan.variants[variant]]:
        line += ["--set", text]
    return line + (["--device", device] if device else [])


def run_missing(plan: Plan, out: Path, device: str | None) -> None:
    """Train and test what has no results yet, one run after the other; the output goes into <run>/ablation.log."""
    from analysis.progress import progress

    jobs = [
        (variant, seed, out / folder_name(variant) / f"seed{seed}") for variant in plan.variants for seed in plan.seeds
    ]
    missing = [job for job in jobs if not (job[2] / "results" / "results.json").exists()]
    print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are done")
    for variant, seed, run_dir in progress(missing, "runs", len(missing)):
        run_dir.mkdir(parents=True, exist_ok=True)
        with open(run_dir / "ablation.log", "w", encoding="utf-8") as log:
            code = subprocess.run(
                command(plan, variant, seed, run_dir, device), stdout=log, stderr=subprocess.STDOUT, check=False
            )
        if code.returncode:
            last = (run_dir / "ablation.log").read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no output"]
            raise ProjectError(
                f"variant `{variant}` with seed {seed} failed: {last[0]} (see {run_dir / 'ablation.log'})"
            )


def read_figures(plan: Plan, out: Path, level: str, metric: str = "auc") -> dict[str, dict[str, list[float]]]:
    """Return variant → test set (and the average over them) → a figure per seed, in the order of the seeds."""
    from analysis.results import Run

    found: dict[str, dict[str, list[float]]] = {}
    for variant in plan.variants:
        rows = found.setdefault(variant, {})
        for seed in plan.seeds:
            datasets = Run(out / folder_name(variant) / f"seed{seed}").datasets
            values = {name: metrics[level][metric]["value"] for name, metrics in datasets.items()}
            if len(values) > 1:
                values[AVERAGE] = sum(values.values()) / len(values)
            for name, value in values.items():
                rows.setdefault(name, []).append(value)
    sets = {frozenset(rows) for rows in found.values()}
    if len(sets) > 1:
        raise DataError(f"the runs under {out} were tested on different test sets; delete those of an older plan")
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


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table: a line per variant, a column per test set with mean ± deviation (difference, p)."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    lines = ["| Variant | " + " | ".join(datasets) + " |", "|---|" + "---:|" * len(datasets)]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        cells = []
        for row in (r for r in rows if r["variant"] == variant):
            text = f"{row['mean']:.4f}" + (f" ± {row['deviation']:.4f}" if row["deviation"] is not None else "")
            if variant != FULL:
                text += f" ({row['difference']:+.4f}" + (f", p {row['p']:.2g})" if row["p"] is not None else ")")
            cells.append(text)
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    note = (
        f"{rows[0]['level'].capitalize()} AUC. Mean ± deviation over seeds; in brackets the difference to the full model and the "
        "p-value of a paired t-test over seeds, not corrected for their number."
    )
    return "\n".join([*lines, "", note, ""])


def draw(rows: list[dict[str, Any]], stem: Path) -> list[Path]:
    """Draw the difference to the full model, averaged over test sets, a bar per variant."""
    from analysis import style

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


def write_tables(plan: Plan, out: Path) -> None:
    """Write ablation_<level>.csv, .md, .png and .pdf from the runs' results."""
    from training.io import atomic_write

    for level in ("frame", "video"):
        rows = summarise(read_figures(plan, out, level), level)
        text = io.StringIO()
        writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        atomic_write(out / f"ablation_{level}.csv", text.getvalue())
        atomic_write(out / f"ablation_{level}.md", to_markdown(rows))
        if len(plan.variants) > 1:
            draw(rows, out / f"ablation_{level}")
        print(to_markdown(rows))


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
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override for every run")
    parser.add_argument("--seeds", nargs="+", type=int, help="instead of the plan's")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help=f"these variants (and `{FULL}`) only")
    parser.add_argument("--detector_path", metavar="YAML", help="instead of the plan's")
    parser.add_argument("--device", metavar="cpu|cuda", help="default: a GPU where there is one")
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
        unknown = [name for name in arguments.only if name not in plan.variants]
        if unknown:
            raise ConfigError(f"{arguments.plan} has no variant `{unknown[0]}`; it has {', '.join(plan.variants)}")
        plan.variants = {name: plan.variants[name] for name in plan.variants if name in (FULL, *arguments.only)}
    out = Path(arguments.out)
    run_missing(plan, out, arguments.device)
    write_tables(plan, out)
    return 0


if __name__ == "__main__":
    run(main)
