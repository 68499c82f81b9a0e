"""What the tools share that look at one run's detector: their flags, the run, one of its test sets, and how they end."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from analysis.report import refresh_reports
from analysis.reporting.sections import Section, folder_of, write_section
from common.cli import add_common, add_set
from common.rundir import open_run

if TYPE_CHECKING:
    from prediction.trained import Trained
    from training.dataset.loader import Loader


def tool_parser(doc: str | None, run_help: str = "run directory with a checkpoint") -> argparse.ArgumentParser:
    """Return a parser with the flags of every such tool; its description is the docstring's first line."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("run_dir", metavar="RUN_DIR", help=run_help)
    parser.add_argument("--device", metavar="cpu|cuda", help="default: a GPU where there is one")
    add_set(parser)
    add_common(parser)
    return parser


def add_datasets(parser: argparse.ArgumentParser) -> None:
    """Add the flag that chooses test sets."""
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="default: the run's first test set")


def trained_of(arguments: argparse.Namespace, *overrides: str) -> Trained:
    """Return the detector that the flags name, with keys of the configuration that the tool needs."""
    from prediction.trained import load_trained

    return load_trained(open_run(arguments.run_dir).path, [*arguments.set, *overrides], arguments.device)


def test_set_of(arguments: argparse.Namespace, trained: Trained) -> Loader:
    """Return the loader of the test sets that the flags name, by default of the run's first."""
    return trained.loader("test", arguments.datasets or trained.config.test_dataset[:1])


def conclude(trained: Trained, tool: str, section: Section) -> None:
    """Give the run the tool's section, and its report the present form."""
    write_section(folder_of(trained.path, tool), section)
    refresh_reports([trained.path])
