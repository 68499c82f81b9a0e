"""Figures of a run's test sets by columns of attributes: gender, skin tone, age, generator, compression; worst group first.

    python analysis/groups.py logs/clip_ln/2026-01-01-12-00-00 --attributes people.csv

The CSV has a column `video` (a video's name in predictions.csv, or the end of it that no other has, such as
`Celeb-real/id0_0001`) and any columns of attributes; an empty value is no group. A group has the AUC of its own videos, or, of
one class only, against all of the other; intervals are over people where they are known, else over videos.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common.cli import run
from common.errors import ConfigError, DataError

if TYPE_CHECKING:
    import argparse

    from training.metrics.groups import GroupReport

# Names that mean something else in predictions.csv.
OWN_COLUMNS = ("frame", "label", "method", "prob", "person")


def read_attributes(path: Path, chosen: list[str] | None = None) -> dict[str, dict[str, str]]:
    """Return, by the name of a video as it is written, its value in every column, or in those that are chosen.

    Raises:
        DataError: the file cannot be read, or names a video twice. ConfigError: no such column, none at all, or one that has a
            name of predictions.csv.
    """
    from analysis.reporting.score_file import UNKNOWN, VIDEOS, read_rows, require

    rows = read_rows(path)
    named = {column.lower(): column for column in rows[0]}
    key = next((named[name] for name in VIDEOS if name in named), None)
    if key is None:
        raise ConfigError(f"{path} has no column `video`, only {', '.join(rows[0])}")
    columns = [require(name, rows[0]) for name in chosen] if chosen else [name for name in rows[0] if name != key]
    if own := [name for name in columns if name.lower() in OWN_COLUMNS or name == key]:
        raise ConfigError(
            f"{path}: predictions.csv has a column `{own[0]}` of its own; give the attribute another name"
        )
    if not columns:
        raise ConfigError(f"{path} has no column beside `{key}`; add one of attributes")
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if row[key] in found:
            raise DataError(f"{path} names the video {row[key]} twice; keep one line of it")
        found[row[key]] = {name: "" if row[name].lower() in UNKNOWN else row[name] for name in columns}
    return found


def assign(attributes: dict[str, dict[str, str]], videos: set[str], path: Path) -> dict[str, dict[str, str]]:
    """Return the attributes by the videos' whole names.

    Raises:
        DataError: a name is of no video, or of several.
    """
    ends: dict[str, list[str]] = {}
    for video in sorted(videos):
        parts = video.split("/")
        for start in range(len(parts)):
            ends.setdefault("/".join(parts[start:]), []).append(video)
    found = {}
    for name, values in attributes.items():
        meant = [name] if name in videos else ends.get(name, [])
        if len(meant) != 1:
            why = f"may be {meant[0]} or {meant[1]}; write more of it" if meant else "is in no test set of this run"
            raise DataError(f"{path}: the video {name} {why}")
        if meant[0] in found:
            raise DataError(f"{path} names the video {meant[0]} twice; keep one line of it")
        found[meant[0]] = values
    return found


def _parser() -> argparse.ArgumentParser:
    import argparse

    from common.cli import add_common

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run_dir", metavar="RUN_DIR", help="run directory with results")
    parser.add_argument("--attributes", required=True, metavar="FILE", help="CSV: `video`, and columns of attributes")
    parser.add_argument("--columns", nargs="+", metavar="NAME", help="only these attributes (default: all)")
    parser.add_argument("--threshold", type=float, default=0.5, metavar="PROB", help="above it a score is fake (0.5)")
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    from analysis.report import refresh_reports
    from analysis.reporting.score_tables import GROUP_FIELDS, group_lines, groups_sheet
    from analysis.reporting.sections import Section, folder_of, write_section
    from analysis.reporting.sheet import to_markdown, write_csv
    from common.rundir import open_run
    from training.metrics.groups import by_group

    path, source = Path(arguments.attributes), open_run(arguments.run_dir)
    attributes = read_attributes(path, arguments.columns)
    tests = {name: source.predictions(name) for name in source.datasets}
    of_video = assign(attributes, {video for data in tests.values() for video in data.video.tolist()}, path)
    reports: dict[tuple[str, str], GroupReport] = {}
    for name, data in tests.items():
        for column in next(iter(attributes.values())):
            group = [of_video.get(video, {}).get(column, "") for video in data.video.tolist()]
            if any(group) and not data.one_class:
                scored = data.label, data.prob, data.video, group
                reports[name, column] = by_group(*scored, threshold=arguments.threshold, person=data.people())
    if not reports:
        raise DataError(f"{path} gives no group to a test set of both classes; fill in its columns")
    folder = folder_of(source.path, "groups")
    folder.mkdir(parents=True, exist_ok=True)
    sheet = groups_sheet(reports)
    sheet.columns[0] = "Test set"
    fields = ["dataset" if name == "detector" else name for name in GROUP_FIELDS]
    lines = [
        {("dataset" if key == "detector" else key): value for key, value in row.items()} for row in group_lines(reports)
    ]
    written = write_csv(lines, fields, folder / "groups.csv")
    write_section(
        folder, Section("Groups", f"{sheet.caption} Attributes: {path.name}.", columns=sheet.columns, rows=sheet.rows)
    )
    print("\n" + to_markdown(sheet))
    print(written)
    refresh_reports([source.path])
    return 0


if __name__ == "__main__":
    run(main)
