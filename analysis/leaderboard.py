"""Many runs on many test sets as the field's table, beside the benchmark's published figures.

    python analysis/leaderboard.py logs/clip_ln/A logs/xception/B --out tables --published
    python analysis/leaderboard.py RUN_A RUN_B --compare

Writes leaderboard_<level>.csv, .md, .tex and .html for frames and videos; with --compare also DeLong's test and the paired
bootstrap between every two runs on every common test set (comparison.csv).
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from analysis.leaderboard_formats import to_html, to_latex, to_markdown
from analysis.leaderboard_table import SOURCE, Entry, Table, build_table, published_entries, run_entry
from analysis.results import Run, unique_names
from training.cli import add_common, run
from training.errors import DataError
from training.io import atomic_write

COMPARISON = ("dataset", "level", "a", "b", "auc_a", "auc_b", "difference", "low", "high", "p_delong", "p_bootstrap")


def compare_runs(runs: Sequence[Run], names: Sequence[str], level: str = "video", resamples: int = 2000) -> list[dict]:
    """Compare the AUC of every two runs on every test set that both have.

    Rows of the two are matched by video and frame, and both must have the same ones. `p_delong` is DeLong's test (for frames
    its form for clustered samples), `p_bootstrap` and the interval come from the paired bootstrap over videos. P-values are
    not corrected for their number.

    Raises:
        DataError: two runs were tested on different frames.
    """
    from training.metrics import delong, paired_bootstrap

    rows = []
    for (name_a, run_a), (name_b, run_b) in combinations(zip(names, runs), 2):
        for dataset in [dataset for dataset in run_a.datasets if dataset in run_b.datasets]:
            label, video, a, b = _matched(run_a, run_b, dataset)
            if level == "video":
                test = delong(*_video_means(label, video, a, b))
            else:
                test = delong(label, a, b, video)
            boot = paired_bootstrap(label, a, b, video, level=level, resamples=resamples)
            rows.append(
                {
                    "dataset": dataset,
                    "level": level,
                    "a": name_a,
                    "b": name_b,
                    "auc_a": test.a,
                    "auc_b": test.b,
                    "difference": test.difference,
                    "low": boot.low,
                    "high": boot.high,
                    "p_delong": test.p,
                    "p_bootstrap": boot.p,
                }
            )
    return rows


def _matched(run_a: Run, run_b: Run, dataset: str) -> tuple[Any, Any, Any, Any]:
    """Return label, video, and both runs' probabilities in the same order of frames."""
    import numpy as np

    first, second = run_a.predictions(dataset), run_b.predictions(dataset)
    order_a, order_b = (np.lexsort((data.frame, data.video)) for data in (first, second))
    same = len(order_a) == len(order_b) and all(
        np.array_equal(getattr(first, name)[order_a], getattr(second, name)[order_b])
        for name in ("video", "frame", "label")
    )
    if not same:
        raise DataError(
            f"{run_a.path} and {run_b.path} were tested on different frames of {dataset}; "
            "test both with the same index and frame_num before comparing them"
        )
    return first.label[order_a], first.video[order_a], first.prob[order_a], second.prob[order_b]


def _video_means(label: Any, video: Any, a: Any, b: Any) -> tuple[Any, Any, Any]:
    import numpy as np

    _, start, code = np.unique(video, return_index=True, return_inverse=True)
    frames = np.bincount(code)
    return label[start], np.bincount(code, a) / frames, np.bincount(code, b) / frames


def write_table(table: Table, folder: Path, stem: str) -> list[Path]:
    """Write the table as CSV, Markdown, LaTeX and HTML; return the paths."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["detector", "source", *(f"{c}{end}" for c in table.datasets for end in ("", "_low", "_high")), *table.summary]
    )
    for row in table.entries:
        cells = [cell for name in table.datasets for cell in row.figures.get(name, (None, None, None))]
        writer.writerow([row.name, row.source, *cells, *(table.value(row, name) for name in table.summary)])
    written = []
    for suffix, content in (
        ("csv", text.getvalue()),
        ("md", to_markdown(table)),
        ("tex", to_latex(table)),
        ("html", to_html(table)),
    ):
        written.append(folder / f"{stem}.{suffix}")
        atomic_write(written[-1], content)
    return written


def _write_comparison(rows: list[dict], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COMPARISON, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue())
    for row in rows:
        print(
            f"{row['dataset']} ({row['level']}): {row['a']} {row['auc_a']:.4f} vs {row['b']} {row['auc_b']:.4f}, "
            f"difference {row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}], "
            f"p {row['p_delong']:.3g} (DeLong), {row['p_bootstrap']:.3g} (bootstrap)"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN_DIR", help="run directories with results")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="a name per run")
    parser.add_argument(
        "--within", nargs="+", metavar="DATASET", help="test sets of the training domain (default: known)"
    )
    parser.add_argument("--published", action="store_true", help=f"add the benchmark's table ({SOURCE})")
    parser.add_argument("--compare", action="store_true", help="test every two runs for a difference")
    parser.add_argument("--out", default=".", metavar="DIR", help="default: the current folder")
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not arguments.runs and not arguments.published:
        parser.error("name at least one run directory, or ask for --published")
    runs = [Run(path) for path in arguments.runs]
    names = unique_names(runs, arguments.names)
    folder = Path(arguments.out)
    for level in ("frame", "video"):
        entries: list[Entry] = [run_entry(source, name, level) for source, name in zip(runs, names)]
        if arguments.published and level == "frame":
            entries = published_entries() + entries
        if not entries:
            continue
        table = build_table(entries, level, arguments.within)
        for path in write_table(table, folder, f"leaderboard_{level}"):
            print(path)
        print("\n" + to_markdown(table))
    if arguments.compare:
        if len(runs) < 2:
            raise DataError("--compare needs at least two run directories")
        rows = [row for level in ("frame", "video") for row in compare_runs(runs, names, level)]
        _write_comparison(rows, folder / "comparison.csv")
    return 0


if __name__ == "__main__":
    run(main)
