"""The leaderboard as Markdown, LaTeX and HTML. The best figure of a column is bold."""

from __future__ import annotations

import html

from analysis.reporting.leaderboard_table import DOMAINS, OURS, Entry, Table
from analysis.reporting.sheet import html_page, latex_text
from common.standing import FEW

WITHIN_HERE = "†"


def cell_text(table: Table, entry: Entry, column: str) -> str:
    """Return `0.9120 [0.880, 0.940]`, of few videos `[0.880, 0.940] 0.9120`; a count for Top3, a dash without a figure."""
    return " ".join(part for part in _parts(table, entry, column) if part)


def _parts(table: Table, entry: Entry, column: str) -> tuple[str, str]:
    """Return what stands first in a cell and what after it."""
    value = table.value(entry, column)
    if value is None:
        return "–", ""
    if isinstance(value, int):
        return str(value), ""
    text, interval = f"{value:.4f}", ""
    if column in entry.figures and entry.figures[column][1] is not None:
        _, low, high = entry.figures[column]
        interval = f"[{low:.3f}, {high:.3f}]"
    first, second = (interval, text) if interval and column in entry.few else (text, interval)
    if column in table.mixed and column in entry.within:
        return (first, f"{second}{WITHIN_HERE}") if second else (f"{first}{WITHIN_HERE}", "")
    return first, second


def _standing(table: Table) -> str:
    """Return, by test set, how many videos and people the figures stand on; runs that differ in it are all told."""
    told = {
        name: list(dict.fromkeys(entry.stands[name].text for entry in table.entries if name in entry.stands))
        for name in table.datasets
    }
    found = [f"{name}: {' or '.join(texts)}" for name, texts in told.items() if texts]
    return f" What the figures stand on: {'; '.join(found)}." if found else ""


def caption(table: Table) -> str:
    """Return one sentence on what the table shows and where its figures come from."""
    seeds = max((entry.seeds for entry in table.entries), default=1)
    brackets = (
        "95 % interval by bootstrap over people where they are known, else over videos"
        if seeds == 1
        else f"mean ± standard deviation over {seeds} seeds"
    )
    text = f"{table.level.capitalize()}-level AUC; brackets: {brackets}; bold: best of the column."
    text += " Top3 counts, over the rows shown, the test sets on which a row is among the three best (ties are in)."
    if table.mixed:
        text += f" Within- and cross-domain follow what each row was trained on; {WITHIN_HERE}: within the domain of that row. "
        text += "Averages over different test sets are not compared."
    sources = sorted({entry.source for entry in table.entries} - {OURS})
    published = [source for source in sources if not source.startswith(OURS)]
    if published:
        text += f" Rows marked * are published figures ({', '.join(published)}), not results of this repository; "
        text += "their averages and Top3 are computed anew from the figures per test set, so Top3 may differ from the print."
    text += _standing(table)
    if any(name in entry.few for entry in table.entries for name in table.datasets):
        text += f" With fewer than {FEW} videos of a class the interval stands first."
    text = " ".join([text, *table.notes])
    notes = [source.removeprefix(f"{OURS}; ") for source in sources if source.startswith(OURS)]
    return " ".join([text, *notes])


def row_name(entry: Entry) -> str:
    """Return the detector's name, with a star where its figures are somebody else's."""
    return entry.name if entry.source.startswith(OURS) else f"{entry.name}*"


def to_markdown(table: Table) -> str:
    """Return a GitHub table with its caption."""
    columns = table.datasets + table.summary
    lines = ["| Detector | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for entry in table.entries:
        cells = []
        for column in columns:
            text = cell_text(table, entry, column)
            cells.append(f"**{text}**" if table.is_best(entry, column) else text)
        lines.append("| " + " | ".join([row_name(entry).replace("*", r"\*").replace("|", r"\|"), *cells]) + " |")
    return "\n".join([*lines, "", caption(table), ""])


def to_latex(table: Table) -> str:
    """Return a `table*` for booktabs, within- and cross-domain columns under their own headings."""
    groups = [
        ("Within domain", table.within + [c for c in table.summary if c.endswith(DOMAINS[0])]),
        (f"Within domain where {WITHIN_HERE}", table.mixed),
        ("Cross domain", table.cross + [c for c in table.summary if c.endswith(DOMAINS[1])]),
    ]
    heads, rules, columns, position = [""], [], [], 2
    for name, own in groups:
        if not own:
            continue
        heads.append(rf"\multicolumn{{{len(own)}}}{{c}}{{{name}}}")
        rules.append(rf"\cmidrule(lr){{{position}-{position + len(own) - 1}}}")
        position += len(own)
        columns += own
    titles = [latex_text(c.rpartition(" ")[0] if c in table.summary else c) for c in columns]
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table*}", r"\centering\scriptsize"]
    lines += [rf"\caption{{{latex_text(caption(table))}}}", rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
    lines += [" & ".join(heads) + r" \\", "".join(rules), " & ".join(["Detector", *titles]) + r" \\", r"\midrule"]
    for entry in table.entries:
        cells = []
        for column in columns:
            text = latex_text(cell_text(table, entry, column))
            cells.append(rf"\textbf{{{text}}}" if table.is_best(entry, column) else text)
        lines.append(" & ".join([latex_text(row_name(entry)), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def to_html(table: Table) -> str:
    """Return a page of its own; wide tables scroll under a fixed first column."""
    columns = table.datasets + table.summary
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["Detector", *columns])
    rows = []
    for entry in table.entries:
        cells = [f"<td>{html.escape(row_name(entry))}</td>"]
        for column in columns:
            first, second = _parts(table, entry, column)
            shown = f"<b>{first}</b>" if table.is_best(entry, column) else first
            cells.append(f"<td>{shown}{f' <small>{second}</small>' if second else ''}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return html_page(f"Leaderboard, {table.level} level", caption(table), head, rows)
