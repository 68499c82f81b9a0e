"""The leaderboard as Markdown, LaTeX and HTML. The best figure of a column is bold."""

from __future__ import annotations

import html

from analysis.leaderboard_table import OURS, Entry, Table

LATEX_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}


def cell_text(table: Table, entry: Entry, column: str) -> str:
    """Return `0.912`, with its interval where there is one; a count for Top3, a dash where there is no figure."""
    value = table.value(entry, column)
    if value is None:
        return "–"
    if isinstance(value, int):
        return str(value)
    text = f"{value:.4f}"
    if column in entry.figures and entry.figures[column][1] is not None:
        _, low, high = entry.figures[column]
        text += f" [{low:.3f}, {high:.3f}]"
    return text


def caption(table: Table) -> str:
    """Return one sentence on what the table shows and where its figures come from."""
    text = f"{table.level.capitalize()}-level AUC; brackets: 95 % interval by bootstrap over videos; bold: best of the column."
    sources = sorted({entry.source for entry in table.entries} - {OURS})
    published = [source for source in sources if not source.startswith(OURS)]
    if published:
        text += f" Rows marked * are published figures ({', '.join(published)}), not results of this repository."
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


def _latex(text: str) -> str:
    return "".join(LATEX_SPECIAL.get(c, c) for c in text).replace("–", "--")


def to_latex(table: Table) -> str:
    """Return a `table*` for booktabs, within- and cross-domain columns under their own headings."""
    groups = [
        (name, members) for name, members in (("Within domain", table.within), ("Cross domain", table.cross)) if members
    ]
    heads, rules, columns, position = [""], [], [], 2
    for name, members in groups:
        own = members + [c for c in table.summary if table.members(c) is members]
        heads.append(rf"\multicolumn{{{len(own)}}}{{c}}{{{name}}}")
        rules.append(rf"\cmidrule(lr){{{position}-{position + len(own) - 1}}}")
        position += len(own)
        columns += own
    titles = [_latex(c.rpartition(" ")[0] if c in table.summary else c) for c in columns]
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table*}", r"\centering\scriptsize"]
    lines += [rf"\caption{{{_latex(caption(table))}}}", rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
    lines += [" & ".join(heads) + r" \\", "".join(rules), " & ".join(["Detector", *titles]) + r" \\", r"\midrule"]
    for entry in table.entries:
        cells = []
        for column in columns:
            text = _latex(cell_text(table, entry, column))
            cells.append(rf"\textbf{{{text}}}" if table.is_best(entry, column) else text)
        lines.append(" & ".join([_latex(row_name(entry)), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


STYLE = """body{font:15px/1.45 system-ui,"DejaVu Sans",sans-serif;margin:1.2rem;color:#1b1f24}
div{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid #d9dee3;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:#fff}
small{color:#57606a}caption{text-align:left;color:#57606a;padding-bottom:.6rem;white-space:normal}"""


def to_html(table: Table) -> str:
    """Return a page of its own; wide tables scroll under a fixed first column."""
    columns = table.datasets + table.summary
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["Detector", *columns])
    rows = []
    for entry in table.entries:
        cells = [f"<td>{html.escape(row_name(entry))}</td>"]
        for column in columns:
            value, _, interval = cell_text(table, entry, column).partition(" ")
            shown = f"<b>{value}</b>" if table.is_best(entry, column) else value
            cells.append(f"<td>{shown}{f' <small>{interval}</small>' if interval else ''}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Leaderboard, {table.level} level</title><style>{STYLE}</style></head><body>"
        f"<p>{html.escape(caption(table))}</p><div><table><thead><tr>{head}</tr></thead><tbody>"
        + "\n".join(rows)
        + "</tbody></table></div></body></html>\n"
    )
