"""The words of annotation files: labels, splits, tables. What is not plainly understood is refused, with file and place."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.datasets import SPLIT_WORDS, SPLITS
from common.errors import DataError
from common.labels import find_kind

Row = tuple[str, dict[str, str]]
"""Where a row stands (`<file>, line 7`), and column → cell."""


def read_kind(value: Any, where: str) -> str:
    """Return `real` or `fake`.

    Raises:
        DataError: the label is neither; `where` names the file and the place in it.
    """
    kind = find_kind(value)
    if kind is None:
        raise DataError(f"{where}: the label `{value}` means neither real (or 0) nor fake (or 1); correct it")
    return kind


def find_split(value: Any) -> str | None:
    """Return `train`, `val` or `test` where a word plainly means it, in any case, else None."""
    return SPLIT_WORDS.get(str(value).strip().lower())


def read_split(value: Any, where: str) -> str:
    """Return `train`, `val` or `test`.

    Raises:
        DataError: the word is none of them.
    """
    split = find_split(value)
    if split is None:
        raise DataError(f"{where}: the split `{value}` must be one of {', '.join(SPLITS)}; correct it")
    return split


def agree(stated: str, known: str, what: str, where: str, because: str) -> None:
    """Raise DataError when a statement contradicts what is known already: which of the two is wrong, nobody can tell."""
    if stated != known:
        raise DataError(f"{where}: the {what} {stated} contradicts {because}, which says {known}; correct one of them")


def read_rows(path: Path, *columns: str) -> list[Row]:
    """Return the rows of a CSV file that names its columns in the first line; names and cells may stand in blanks.

    Cells are parted by commas, or by semicolons or tabs where the first line has them and no comma. Names of columns are taken
    in any case, as small letters.

    Raises:
        DataError: it is missing, no text, lacks a column, or a row has other cells than the first line names.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"the annotation file {path} is missing; it comes with the dataset, put it there") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}); write it as UTF-8 text") from error
    rows: list[Row] = []
    try:
        # strict: a quote that is never closed would swallow the rest of the file
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=_delimiter(text))
        names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        twice = [name for number, name in enumerate(names) if name and name in names[:number]]
        if twice:
            raise DataError(f"{path} names the column `{twice[0]}` twice in its first line; keep one of them")
        missing = [column for column in columns if column not in names]
        if missing:
            raise DataError(f"{path} lacks the column `{missing[0]}`; its first line must name {','.join(columns)}")
        reader.fieldnames = names
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in row.values() if isinstance(cell, str)) and None not in row:
                continue  # a line of blanks or commas only
            if None in row or any(row[column] is None for column in columns):
                raise DataError(
                    f"{where}: the first line names {len(names)} columns, and this one has another number of cells; "
                    "put a cell that holds a comma in quotes"
                )
            rows.append((where, {name: cell or "" for name, cell in row.items()}))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; correct the quotes there") from error
    return rows


def _delimiter(text: str) -> str:
    head = text.partition("\n")[0]
    return next((sign for sign in ",;\t" if sign in head), ",")


def by_key(rows: list[Row], key: Callable[[dict[str, str]], Any]) -> dict[Any, Row]:
    """Return key → row.

    Raises:
        DataError: two rows of one key say different things.
    """
    found: dict[Any, Row] = {}
    for where, row in rows:
        first, known = found.setdefault(key(row), (where, row))
        plain = [{name: cell.strip() for name, cell in each.items()} for each in (known, row)]
        if plain[0] != plain[1]:
            raise DataError(f"{where} contradicts {first.rpartition(', ')[2]} about {key(row)}; keep one of them")
    return found
