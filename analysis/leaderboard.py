"""Many runs on many test sets as the field's table, beside the benchmark's published figures.

    python analysis/leaderboard.py logs/clip_ln/A logs/xception/B --out tables --published
    python analysis/leaderboard.py RUN_A RUN_B --compare --common

Writes leaderboard_<level>.csv, .md, .tex and .html for frames and videos into --out (default: logs/leaderboard); with
--compare also DeLong's test and the paired bootstrap between every two runs on every common test set (comparison.csv, .md,
.tex, .html). The runs' reports show them too. Runs that scored different videos of a test set are compared with --common only,
on the videos that all of them scored.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from analysis.report import refresh_reports
from analysis.reporting.common_videos import alike
from analysis.reporting.leaderboard_formats import caption, cell_text, row_name, to_html, to_latex, to_markdown
from analysis.reporting.leaderboard_table import SOURCE, Entry, Table, build_table, published_entries, seeds_entry
from analysis.reporting.sections import Section, publish
from analysis.reporting.sheet import Sheet, write_csv, write_sheet
from common.cli import add_common, run
from common.errors import DataError
from common.io import atomic_write
from common.rundir import RunDir, has_auc, open_run, unique_names
from common.standing import WORDS

STANDS = ("expected", "scored", *WORDS, "missing", "people")
COMPARISON = (
    "dataset",
    "level",
    "a",
    "b",
    "auc_a",
    "auc_b",
    "difference",
    "low",
    "high",
    "p_delong",
    "p_bootstrap",
    "p_holm",
)


def compare_runs(
    runs: Sequence[RunDir], names: Sequence[str], level: str = "video", resamples: int = 2000
) -> list[dict]:
    """Compare the AUC of every two runs on every test set that both have.

    Rows of the two are matched by video and frame, and both must have the same ones. `p_delong` is DeLong's test (for frames
    its form for clustered samples), `p_bootstrap` and the interval come from the paired bootstrap over people where they are
    known, else over videos. `p_holm` is that of DeLong's test, corrected for the number of rows (Holm 1979). A test set of one
    class has no AUC to compare, and is left out.

    Raises:
        DataError: two runs were tested on different frames.
    """
    from training.metrics import delong, paired_bootstrap
    from training.metrics.significance import holm

    rows: list[dict] = []
    for (name_a, run_a), (name_b, run_b) in combinations(zip(names, runs), 2):
        for dataset in [dataset for dataset in run_a.datasets if dataset in run_b.datasets]:
            if not (has_auc(run_a.datasets[dataset]) and has_auc(run_b.datasets[dataset])):
                continue
            label, video, a, b, people = _matched(run_a, run_b, dataset)
            if level == "video":
                test = delong(*_video_means(label, video, a, b))
            else:
                test = delong(label, a, b, video)
            boot = paired_bootstrap(label, a, b, video, level=level, resamples=resamples, person=people)
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
    corrected = holm([row["p_delong"] for row in rows]).tolist()
    return [{**row, "p_holm": p} for row, p in zip(rows, corrected)]


def _matched(run_a: RunDir, run_b: RunDir, dataset: str) -> tuple[Any, Any, Any, Any, Any]:
    """Return label, video, both runs' probabilities in the same order of frames, and the people, None where unknown."""
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
    people = next(
        (of.where(order).people() for of, order in ((first, order_a), (second, order_b)) if of.people()), None
    )
    return first.label[order_a], first.video[order_a], first.prob[order_a], second.prob[order_b], people


def _video_means(label: Any, video: Any, a: Any, b: Any) -> tuple[Any, Any, Any]:
    import numpy as np

    from training.metrics.samples import group_means

    names, start, code = np.unique(video, return_index=True, return_inverse=True)
    return label[start], group_means(code, a, len(names)), group_means(code, b, len(names))


def write_table(table: Table, folder: Path, stem: str) -> list[Path]:
    """Write the table as CSV, Markdown, LaTeX and HTML; return the paths."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "detector",
            "source",
            "within_domain",
            *(f"{c}{end}" for c in table.datasets for end in ("", "_low", "_high")),
            *table.summary,
            *(f"{c}_{key}" for c in table.datasets for key in STANDS),
        ]
    )
    for row in table.entries:
        cells = [cell for name in table.datasets for cell in row.figures.get(name, (None, None, None))]
        own = " ".join(name for name in table.datasets if name in row.within)
        stands = [value for name in table.datasets for value in _stands(row, name)]
        writer.writerow(
            [row.name, row.source, own, *cells, *(table.value(row, name) for name in table.summary), *stands]
        )
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


def _stands(entry: Entry, dataset: str) -> list[Any]:
    """Return what an entry's figure stands on, in the order of `STANDS`; None where that is unknown."""
    stands = entry.stands.get(dataset)
    if stands is None:
        return [None] * len(STANDS)
    tested = [getattr(stands.tested, key, None) for key in STANDS[:-2]]
    return [*tested, stands.how, stands.counts.get("people")]


def write_leaderboard(
    groups: Mapping[str, Sequence[RunDir]],
    folder: Path,
    *,
    within: Sequence[str] | None = None,
    published: bool = False,
    stem: str = "leaderboard",
    common: bool = False,
) -> list[Path]:
    """Write and print the tables of both levels, give the runs' reports a section each, and return the files' paths.

    Args:
        groups: the runs of each row; several are one detector with several seeds.
        within: test sets of the training domain of every row; None: each row's own, as `within_of` finds it.
        published: put the benchmark's figures, which are of frames, above the rows of that level.
        common: restrict every test set to the videos that all runs scored.

    Raises:
        DataError: runs scored different videos of a test set, and `common` is not asked for.
    """
    same = alike([run for group in groups.values() for run in group], common)
    runs, rest = same.runs, iter(same.runs)
    groups = {name: [next(rest) for _ in group] for name, group in groups.items()}
    written = []
    for level in ("frame", "video"):
        entries = published_entries() if published and level == "frame" else []
        entries += [seeds_entry(group, name, level) for name, group in groups.items()]
        if not entries:
            continue
        table = build_table(entries, level, within, same.notes)
        written += write_table(table, folder, f"{stem}_{level}")
        columns = table.datasets + table.summary
        rows = [[row_name(entry), *(_shown(table, entry, column) for column in columns)] for entry in table.entries]
        section = Section(f"Leaderboard, {level} level", caption(table), columns=["Detector", *columns], rows=rows)
        publish([run.path for run in runs], f"{stem}_{level}", section)
        print("\n" + to_markdown(table))
    return written


def _shown(table: Table, entry: Entry, column: str) -> str:
    text = cell_text(table, entry, column)
    return f"**{text}**" if table.is_best(entry, column) else text


def _comparison_line(row: dict) -> list[str]:
    names = [row[key] for key in ("dataset", "level", "a", "b")]
    difference = f"{row['difference']:+.4f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    return [*names, f"{row['auc_a']:.4f}", f"{row['auc_b']:.4f}", difference] + [
        f"{row[key]:.3g}" for key in ("p_delong", "p_bootstrap", "p_holm")
    ]


def write_comparison(runs: Sequence[RunDir], names: Sequence[str], folder: Path, common: bool = False) -> list[Path]:
    """Write and print `compare_runs` of both levels, give the runs' reports a section, and return the files' paths.

    With `common` every test set is restricted to the videos that all runs scored; without, other videos are a DataError.
    """
    same = alike(runs, common)
    runs = same.runs
    rows = [row for level in ("frame", "video") for row in compare_runs(runs, names, level)]
    sheet = Sheet(
        "Comparison",
        "AUC of two runs on the same frames; brackets: 95 % interval of the difference by paired bootstrap over people where "
        "they are known, else over videos; p of DeLong's test (for frames its form for clustered samples), of the bootstrap, and "
        "of DeLong's test corrected for the number of comparisons at that level (Holm)."
        + "".join(f" {note}" for note in same.notes),
        ["Test set", "Level", "A", "B", "AUC of A", "AUC of B", "A − B", "p DeLong", "p bootstrap", "p Holm"],
        [_comparison_line(row) for row in rows],
    )
    for line in sheet.rows:
        print(
            "{0} ({1}): {2} {4} vs {3} {5}, difference {6}, p {7} (DeLong), {8} (bootstrap), {9} (Holm)".format(*line)
        )
    section = Section("Comparison of runs", sheet.caption, columns=sheet.columns, rows=sheet.rows)
    publish([run.path for run in runs], "leaderboard_comparison", section)
    return [write_csv(rows, COMPARISON, folder / "comparison.csv"), *write_sheet(sheet, folder, "comparison")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="RUN_DIR", help="run directories with results")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="a name per run")
    parser.add_argument(
        "--within",
        nargs="+",
        metavar="DATASET",
        help="test sets of the training domain of every row (default: row by row, what it was trained on and its family)",
    )
    parser.add_argument("--published", action="store_true", help=f"add the benchmark's table ({SOURCE})")
    parser.add_argument("--compare", action="store_true", help="test every two runs for a difference")
    parser.add_argument(
        "--common",
        action="store_true",
        help="where runs scored different videos of a test set, compare on those that all of them scored",
    )
    parser.add_argument("--out", default="logs/leaderboard", metavar="DIR", help="default: logs/leaderboard")
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not arguments.runs and not arguments.published:
        parser.error("name at least one run directory, or ask for --published")
    if arguments.compare and len(arguments.runs) < 2:
        raise DataError("--compare needs at least two run directories")
    runs = [open_run(path) for path in arguments.runs]
    names = unique_names(runs, arguments.names)
    folder = Path(arguments.out)
    groups = {name: [source] for name, source in zip(names, runs)}
    written = write_leaderboard(
        groups, folder, within=arguments.within, published=arguments.published, common=arguments.common
    )
    if arguments.compare:
        written += write_comparison(runs, names, folder, arguments.common)
    for path in written:
        print(path)
    refresh_reports([source.path for source in runs])
    return 0


if __name__ == "__main__":
    run(main)
