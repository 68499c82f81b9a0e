"""Measured comparisons: `python -m benchmarks NAME [--json PATH] [--quick]`.

A benchmark is a module of this package with `run(quick=False) -> list[dict]`; each dictionary has `name`, `unit`, `ours`,
`reference`, `ratio`, `agreement`, `machine` (see :func:`benchmarks.row`). `all` runs every one.
"""

import argparse
import ast
import os
import sys
from pathlib import Path

from common.by_name import Folder
from common.cli import add_common, program
from common.cli import run as run_program
from common.errors import ConfigError

FOLDER = Path(__file__).parent
_FILES = Folder("benchmarks", "benchmark")
COLUMNS = ("name", "unit", "ours", "reference", "ratio", "agreement")


def available_benchmarks() -> dict[str, str]:
    """Return name → first line of the docstring, without importing any benchmark."""
    docstrings = {
        name: ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) for name in _FILES.names
    }
    return {name: (text or "").partition("\n")[0] for name, text in docstrings.items()}


def choose(name: str) -> list[str]:
    """Return the benchmarks that `name` stands for; ConfigError with the list of names when there is none."""
    if name == "all":
        return list(_FILES.names)
    if name not in _FILES.names:
        raise ConfigError(f"there is no benchmark `{name}`; choose from all, {', '.join(_FILES.names)}")
    return [name]


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(rows: list[dict]) -> str:
    """Return the rows as a text table, numbers right-aligned."""
    cells = [list(COLUMNS)] + [[_cell(row[column]) for column in COLUMNS] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = []
    for number, line in enumerate(cells):
        left = [text.ljust(width) for text, width in zip(line[:2], widths[:2])]
        right = [text.rjust(width) for text, width in zip(line[2:], widths[2:])]
        lines.append("  ".join(left + right).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 1 when a benchmark of several could not run."""
    parser = argparse.ArgumentParser(
        prog=program("python -m benchmarks"), description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("name", nargs="?", help="a benchmark, or all")
    parser.add_argument("--list", action="store_true", help="show the benchmarks and stop")
    parser.add_argument("--quick", action="store_true", help="small inputs: does it run, roughly how fast")
    parser.add_argument("--json", metavar="PATH", help="also write the rows as a JSON list")
    add_common(parser)
    arguments = parser.parse_args(argv)
    if arguments.list or arguments.name is None:
        for name, summary in available_benchmarks().items():
            print(f"{name:14} {summary}")
        return 0
    rows = []
    for name in choose(arguments.name):
        print(f"running {name} …", file=sys.stderr, flush=True)
        rows += _FILES.module(name).run(quick=arguments.quick)
    print(table(rows))
    if rows:
        print(f"\nmachine: {rows[0]['machine']}")
    if arguments.json:
        from common.io import write_json

        write_json(arguments.json, rows)
        print(f"written: {os.path.abspath(arguments.json)}")
    return 0


if __name__ == "__main__":
    run_program(main)
