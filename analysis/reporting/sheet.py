"""A small table of texts as Markdown, LaTeX and HTML, and rows of numbers as CSV: what every tool leaves for a paper."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LATEX_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "–": "--",
    "±": r"$\pm$",
    "−": "$-$",
}
STYLE = """body{font:15px/1.45 system-ui,"DejaVu Sans",sans-serif;margin:1.2rem;color:#1b1f24}
div{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid #d9dee3;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:#fff}
small{color:#57606a}caption{text-align:left;color:#57606a;padding-bottom:.6rem;white-space:normal}"""


@dataclass
class Sheet:
    """A table of texts.

    Attributes:
        title: of its page. caption: what it shows, in sentences. columns: headings. rows: as many texts each.
    """

    title: str
    caption: str
    columns: list[str]
    rows: list[list[str]]


def latex_text(text: str) -> str:
    """Return `text` so that LaTeX prints it."""
    return "".join(LATEX_SPECIAL.get(c, c) for c in text)


def html_page(title: str, caption: str, head: str, rows: Iterable[str]) -> str:
    """Return a page with one table, whose head and rows are HTML already; a wide one scrolls under its first column."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<p>{html.escape(caption)}</p><div><table><thead><tr>{head}</tr></thead><tbody>"
        + "\n".join(rows)
        + "</tbody></table></div></body></html>\n"
    )


def to_markdown(sheet: Sheet) -> str:
    """Return a GitHub table with its caption."""
    lines = ["| " + " | ".join(sheet.columns) + " |", "|---|" + "---:|" * (len(sheet.columns) - 1)]
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in sheet.rows]
    return "\n".join([*lines, "", sheet.caption, ""])


def to_latex(sheet: Sheet) -> str:
    """Return a `table*` for booktabs."""
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table*}", r"\centering\scriptsize"]
    lines += [rf"\caption{{{latex_text(sheet.caption)}}}", rf"\begin{{tabular}}{{l{'r' * (len(sheet.columns) - 1)}}}"]
    body = [" & ".join(latex_text(cell) for cell in row) + r" \\" for row in [sheet.columns, *sheet.rows]]
    lines += [r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""]
    return "\n".join(lines)


def to_html(sheet: Sheet) -> str:
    """Return a page of its own."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in sheet.columns)
    rows = ("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in sheet.rows)
    return html_page(sheet.title, sheet.caption, head, rows)


def write_sheet(sheet: Sheet, folder: Path, stem: str) -> list[Path]:
    """Write `<stem>.md`, `.tex` and `.html`; return their paths."""
    from common.io import atomic_write

    texts = {"md": to_markdown(sheet), "tex": to_latex(sheet), "html": to_html(sheet)}
    for suffix, text in texts.items():
        atomic_write(folder / f"{stem}.{suffix}", text)
    return [folder / f"{stem}.{suffix}" for suffix in texts]


def write_csv(rows: Iterable[Mapping[str, Any]], fields: Sequence[str], path: Path) -> Path:
    """Write the rows with a heading line, and return the path."""
    from common.io import atomic_write

    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue())
    return path
