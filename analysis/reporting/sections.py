"""What an analysis tool leaves in a run directory so that the run's report shows it.

A tool writes into `<run>/analysis/<tool>/` its tables, its figures, and last `section.json`:
`{"title", "text", "figures": [PNG names], "captions": [...], "columns": [...], "rows": [[...]]}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from common.errors import DataError
from common.io import atomic_write, read_json, write_json
from common.rundir import RunDir

# Folders of tools that were called otherwise once.
_FORMER = {"gradcam": "heatmaps", "tsne": "features"}
_FILE = "section.json"


@dataclass
class Section:
    """One part of a report.

    Attributes:
        title: heading. text: what was done and how to read it, in a few sentences.
        figures: PNG files beside section.json. captions: one sentence each.
        columns, rows: a table of texts, `**bold**` ones too; empty when there is none.
    """

    title: str
    text: str
    figures: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def folder_of(run_dir: Path, tool: str) -> Path:
    """Return where `tool` writes for this run."""
    return RunDir(run_dir).analysis(tool)


def write_section(folder: Path, section: Section) -> None:
    """Write section.json; the report of the run shows it from then on, and no longer one under the tool's former name."""
    former = _FORMER.get(folder.name)
    if former:
        (folder.with_name(former) / _FILE).unlink(missing_ok=True)
    write_json(folder / _FILE, asdict(section))


def read_sections(run_dir: Path) -> list[tuple[Path, Section]]:
    """Return the sections of a run with their folders, sorted by tool."""
    found = []
    for path in RunDir(run_dir).sections():
        try:
            found.append((path.parent, Section(**read_json(path))))
        except TypeError as error:
            raise DataError(f"{path} is not a report section ({error}); run that tool again") from error
    return found


def publish(run_dirs: Sequence[Path], tool: str, section: Section, figures: Sequence[Path] = ()) -> None:
    """Give each of several runs the same section, with copies of those of the `figures` that are PNG.

    For tools whose tables stand over many runs; the section's `figures` are filled in here.
    """
    pictures = [path for path in figures if path.suffix == ".png"]
    for run_dir in dict.fromkeys(Path(path) for path in run_dirs):
        folder = folder_of(run_dir, tool)
        for path in pictures:
            atomic_write(folder / path.name, path.read_bytes())
        write_section(folder, replace(section, figures=[path.name for path in pictures]))
