"""A CSV of anybody's scores: which of its columns are labels, videos, scores, people and groups. Needs no torch."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import ConfigError, DataError
from common.labels import find_kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# How people name their columns, the most telling first.
LABELS = ("label", "is_fake", "target", "y_true", "y", "gt", "class")
VIDEOS = ("video", "video_id", "video_name", "id", "name", "file", "filename", "path", "sample", "image", "frame_path")
SCORES = ("prob", "score", "prob_fake", "fake_prob", "p_fake", "y_score", "pred", "prediction", "output")
PEOPLE = ("person", "identity", "subject", "target_id")
# A column that begins so holds one detector's scores.
SCORES_BEGIN = ("prob_", "score_")
UNKNOWN = {"", "-1", "nan", "none", "null", "na", "n/a"}
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Columns:
    """Names of columns; None is found by name.

    Attributes:
        label, video, person: one each. scores: one of each detector. groups: of which figures are given group by group.
    """

    label: str | None = None
    video: str | None = None
    person: str | None = None
    scores: Sequence[str] | None = None
    groups: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class ScoreFile:
    """What a file holds, row by row.

    Attributes:
        label: `(N,)`, 0 real, 1 fake. video: N names. person: N names, None where unknown; None without such a column.
        scores: by detector `(N,)`, NaN where it has none. groups: by column N names, empty where unknown.
        rows: every row as it stands, for conditions.
    """

    label: NDArray[np.int64]
    video: list[str]
    person: list[str | None] | None
    scores: dict[str, NDArray[np.float64]]
    groups: dict[str, list[str]]
    rows: list[dict[str, str]]

    def where(self, chosen: NDArray[np.bool_]) -> ScoreFile:
        """Return the chosen rows, `(N,)` bool."""

        def of(values: list) -> list:
            return [value for value, take in zip(values, chosen.tolist()) if take]

        return ScoreFile(
            self.label[chosen],
            of(self.video),
            None if self.person is None else of(self.person),
            {name: values[chosen] for name, values in self.scores.items()},
            {name: of(values) for name, values in self.groups.items()},
            of(self.rows),
        )

    def matching(self, conditions: Mapping[str, str]) -> NDArray[np.bool_]:
        """Return which rows have these values in these columns, `(N,)` bool.

        Raises:
            ConfigError: no such column, or no row has the value.
        """
        import numpy as np

        found = np.ones(len(self.rows), bool)
        for column, value in conditions.items():
            require(column, self.rows[0])
            having = np.array([row[column] == value for row in self.rows], bool)
            if not having.any():
                values = sorted({row[column] for row in self.rows})
                raise ConfigError(f"no row has {column}={value}; there is {', '.join(values[:8])}")
            found &= having
        return found


def require(column: str, known: Iterable[str]) -> str:
    """Return the name of a column, or raise ConfigError with those that there are."""
    if column not in (names := list(known)):
        raise ConfigError(f"there is no column `{column}`; the file has {', '.join(names)}")
    return column


def read_scores(path: str | Path, columns: Columns | None = None, logits: bool = False) -> ScoreFile:
    """Read a CSV (also `;` or tab between values, also `.gz`) with a heading line.

    Args:
        path: the file. columns: names of its columns, where they are not the usual ones.
        logits: scores are log-odds, of which the sigmoid is taken.

    Raises:
        DataError: the file cannot be read, or a line's label or score is none (named by its number). ConfigError: a column is
            missing or cannot be guessed.
    """
    import numpy as np

    wanted = columns or Columns()
    rows = read_rows(Path(path))
    heading = list(rows[0])
    label = _one(wanted.label, LABELS, heading, "label", "--label")
    video = _one(wanted.video, VIDEOS, heading, "video", "--video")
    named = {column.lower(): column for column in heading}
    person = wanted.person or next((named[name] for name in PEOPLE if name in named), None)
    for column in (*([person] if person else []), *wanted.groups):
        require(column, heading)
    scores = {}
    for name, column in _score_columns(wanted.scores, heading).items():
        values = np.array([_number(row[column], path, n, column) for n, row in enumerate(rows, 2)])
        if logits:
            values = np.where(values >= 0, 1 / (1 + np.exp(-np.abs(values))), 1 - 1 / (1 + np.exp(-np.abs(values))))
        outside = np.flatnonzero((values < 0) | (values > 1))
        if outside.size:
            raise DataError(
                f"{path}, line {outside[0] + 2}: {values[outside[0]]:g} in `{column}` is no probability; "
                "for log-odds say --logits"
            )
        scores[name] = values
    return ScoreFile(
        np.array([_label(row[label], path, n, label) for n, row in enumerate(rows, 2)], np.int64),
        [row[video] for row in rows],
        None if person is None else [None if row[person].lower() in UNKNOWN else row[person] for row in rows],
        scores,
        {name: ["" if row[name].lower() in UNKNOWN else row[name] for row in rows] for name in wanted.groups},
        rows,
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return a CSV's lines (`,`, `;` or tab between values, also `.gz`) by the names of its heading; DataError if it is none."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:  # gzip's complaints are of this kind too
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, EOFError) as error:
        raise DataError(f"cannot read {path}: {error}; it must be a CSV in UTF-8, as it is or as .gz") from error
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=first.count), strict=True)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}, line {reader.line_num} has not as many values as the heading ({len(reader.fieldnames or ())})"
                )
            rows.append({key: value.strip() for key, value in row.items()})
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if not rows:
        raise DataError(f"{path} has no rows; its first line names the columns, and scores follow")
    return rows


def _one(given: str | None, usual: Sequence[str], heading: list[str], what: str, flag: str) -> str:
    if given:
        return require(given, heading)
    named = {column.lower(): column for column in heading}
    found = next((named[name] for name in usual if name in named), None)
    if found is None:
        raise ConfigError(
            f"no column is called {what} (nor {', '.join(usual)}); name it by {flag}: {', '.join(heading)}"
        )
    return found


def _score_columns(given: Sequence[str] | None, heading: list[str]) -> dict[str, str]:
    """Return column by the detector's name."""
    if given:
        columns = [require(column, heading) for column in given]
    else:
        named = {column.lower(): column for column in heading}
        usual = [named[name] for name in SCORES if name in named]
        columns = usual[:1] + [c for c in heading if c.lower().startswith(SCORES_BEGIN) and c not in usual]
    if not columns:
        raise ConfigError(f"no column of scores is known; name one by --score: {', '.join(heading)}")
    if len(columns) == 1:
        return {columns[0]: columns[0]}
    begin = next((b for b in SCORES_BEGIN if all(c.lower().startswith(b) for c in columns)), "")
    return {column[len(begin) :]: column for column in columns}


def _number(text: str, path: str | Path, line: int, column: str) -> float:
    if text.lower() in UNKNOWN - {"-1"}:
        return math.nan
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(f"{path}, line {line}: `{text[:40]}` in `{column}` is no number") from error
    if math.isinf(value):
        raise DataError(f"{path}, line {line}: `{text}` in `{column}` is no number to rank")
    return value


def _label(text: str, path: str | Path, line: int, column: str) -> int:
    kind = find_kind(text)
    if kind is None:
        raise DataError(f"{path}, line {line}: `{text[:40]}` in `{column}` is no label; write 0 or real, 1 or fake")
    return int(kind == "fake")
