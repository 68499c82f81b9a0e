"""Build a table of the paper from nothing: check data and weights, do the runs that are missing, write the tables.

    python analysis/reproduce.py cross_domain                    published protocol (analysis/reproduction/scales/full.yaml)
    python analysis/reproduce.py all --scale demo                the same on the demo's synthetic faces

Tables: cross_domain (the main table), comparison (beside Xception and linear CLIP, with tests), robustness, ablation, all.
Another call goes on where the last one stopped; runs that several tables need are done once. All lies in
logs/reproduce/<scale>: the runs in runs/, each table in a folder of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.cli import MOST_SEED, add_common, add_set, run, whole
from common.errors import DataError

if TYPE_CHECKING:
    from analysis.reproduction.jobs import Job
    from analysis.reproduction.scale import Scale
    from common.rundir import RunDir


def cross_domain_jobs(scale: Scale, out: Path) -> list[Job]:
    """Return the runs of the main table."""
    return scale.jobs(scale.cross_domain, out)


def comparison_jobs(scale: Scale, out: Path) -> list[Job]:
    """Return the runs of the comparison."""
    return scale.jobs(scale.comparison, out)


def robustness_jobs(scale: Scale, out: Path) -> list[Job]:
    """Return the runs that are measured under perturbations: the first seed of each detector."""
    return scale.jobs(scale.robustness.detectors, out, scale.seeds[:1])


def ablation_jobs(scale: Scale, out: Path) -> list[Job]:
    """Return the runs of the ablation."""
    return scale.ablation_jobs(out)


def _grouped(jobs: Sequence[Job]) -> dict[str, list[RunDir]]:
    from common.rundir import open_run

    groups: dict[str, list[RunDir]] = {}
    for job in jobs:
        groups.setdefault(job.title, []).append(open_run(job.run_dir))
    return groups


def write_cross_domain(scale: Scale, out: Path, asked: argparse.Namespace) -> list[Path]:
    """Write the main table; of several seeds it gives mean and deviation."""
    from analysis.leaderboard import write_leaderboard

    groups = _grouped(cross_domain_jobs(scale, out))
    folder = out / "cross_domain"
    return write_leaderboard(groups, folder, published=scale.published, stem="cross_domain", common=asked.common)


def write_comparison(scale: Scale, out: Path, asked: argparse.Namespace) -> list[Path]:
    """Write the table of all compared detectors, and the tests between them (of several seeds, the first)."""
    from analysis import leaderboard

    groups = _grouped(comparison_jobs(scale, out))
    folder = out / "comparison"
    written = leaderboard.write_leaderboard(groups, folder, published=scale.published, common=asked.common)
    first = [group[0] for group in groups.values()]
    return written + leaderboard.write_comparison(first, list(groups), folder, asked.common)


def write_robustness(scale: Scale, out: Path, asked: argparse.Namespace) -> list[Path]:
    """Measure and write AUC over severity."""
    from analysis import robustness

    plan, jobs = scale.robustness, robustness_jobs(scale, out)
    line = [*(str(job.run_dir) for job in jobs), "--names", *(job.title for job in jobs)]
    line += ["--datasets", *plan.datasets] if plan.datasets else []
    line += ["--kinds", *plan.kinds, "--severities", *(str(severity) for severity in plan.severities)]
    line += ["--device", asked.device] if asked.device else []
    robustness.main([*line, "--out", str(out / "robustness")])
    return sorted((out / "robustness").glob("robustness*.*"))


def write_ablation(scale: Scale, out: Path, asked: argparse.Namespace) -> list[Path]:
    """Write what each part is worth."""
    from analysis.ablation import write_tables

    return write_tables(ablation_jobs(scale, out), out / "ablation")


JobsOf = Callable[["Scale", Path], "list[Job]"]
Writer = Callable[["Scale", Path, argparse.Namespace], "list[Path]"]
TABLES: dict[str, tuple[JobsOf, Writer]] = {
    "cross_domain": (cross_domain_jobs, write_cross_domain),
    "comparison": (comparison_jobs, write_comparison),
    "robustness": (robustness_jobs, write_robustness),
    "ablation": (ablation_jobs, write_ablation),
}


def check(scale: Scale, jobs: Sequence[Job], measured: Sequence[Job], fetch: bool = False) -> None:
    """Print all that is missing for the runs that are not done, and for those that are measured once more.

    Raises:
        DataError: something is missing. ConfigError: a run directory holds a run of other settings.
    """
    from analysis.reproduction.jobs import is_done
    from analysis.reproduction.requirements import missing

    # Whatever is missing is said first: a setting that cannot be read would stop the question of what is done.
    problems = missing([job for job in jobs if not job.tested or job in measured], fetch, scale.fewest_videos)
    for problem in problems:
        print(f"missing: {problem}", file=sys.stderr)
    if problems:
        remedy = f"; `{scale.prepare}` prepares the data of this scale" if scale.prepare else ""
        raise DataError(f"{len(problems)} thing{'s are' if len(problems) > 1 else ' is'} missing, named above{remedy}")
    for job in jobs:
        is_done(job)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="Exit code 2 and a list of all that is missing when data or weights are not there.",
    )
    parser.add_argument("table", choices=[*TABLES, "all"], metavar="TABLE", help=", ".join([*TABLES, "all"]))
    parser.add_argument(
        "--scale", default="full", metavar="NAME|YAML", help="full (default), demo, tiny, or a YAML file of your own"
    )
    parser.add_argument("--out", metavar="DIR", help="default: logs/reproduce/<scale>")
    parser.add_argument("--test_dataset", nargs="+", metavar="NAME", help="instead of the scale's")
    parser.add_argument("--seeds", nargs="+", type=whole(0, MOST_SEED), metavar="N", help="instead of the scale's")
    add_set(parser, "an override for every run")
    parser.add_argument(
        "--common",
        action="store_true",
        help="compare runs that scored different videos on those that all of them scored",
    )
    parser.add_argument("--check", action="store_true", help="only say what is missing")
    parser.add_argument("--fetch", action="store_true", help="let the libraries download the weights that are missing")
    parser.add_argument("--device", metavar="cpu|cuda", help="default: a GPU where there is one")
    parser.add_argument(
        "--gpus", type=whole(1), default=1, metavar="N", help="processes a run, one GPU each (default 1)"
    )
    add_common(parser)
    return parser


def _scale_of(arguments: argparse.Namespace) -> Scale:
    from analysis.reproduction.scale import read_scale

    scale = read_scale(arguments.scale)
    changes: dict[str, object] = {"seeds": arguments.seeds or scale.seeds, "set": [*scale.set, *arguments.set]}
    if arguments.test_dataset:
        kept = [name for name in scale.robustness.datasets or [] if name in arguments.test_dataset]
        changes["test_dataset"] = arguments.test_dataset
        changes["robustness"] = scale.robustness.model_copy(update={"datasets": kept or None})
    return scale.model_copy(update=changes)


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    from analysis.report import refresh_reports
    from analysis.reproduction.jobs import run_missing

    scale = _scale_of(arguments)
    out = Path(arguments.out or f"logs/reproduce/{Path(arguments.scale).stem}")
    wanted = list(TABLES) if arguments.table == "all" else [arguments.table]
    if scale.note:
        print(scale.note)
    unique: dict[Path, Job] = {}
    for table in wanted:
        for job in TABLES[table][0](scale, out):
            unique.setdefault(job.run_dir, job)
    jobs = list(unique.values())
    check(scale, jobs, robustness_jobs(scale, out) if "robustness" in wanted else [], arguments.fetch)
    print(f"data and weights of {len(jobs)} runs are there")
    if arguments.check:
        return 0
    run_missing(jobs, arguments.device, arguments.gpus)
    written = [path for table in wanted for path in TABLES[table][1](scale, out, arguments)]
    refresh_reports([job.run_dir for job in jobs])
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    run(main)
