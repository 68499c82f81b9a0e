"""The tables of somebody's scores: figures, groups and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.reporting.sheet import Sheet

if TYPE_CHECKING:
    from training.metrics.groups import GroupReport

GROUP_FIELDS = ("detector", "column", "group", "real", "fake", "against", "auc", "low", "high", "found", "false_alarms")
PAIR_FIELDS = ("a", "b", "videos", "auc_a", "auc_b", "difference", "low", "high", "p", "p_holm")
SHOWN_GROUPS = 15


def _interval(figure: dict) -> str:
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['value']:.4f}"
    return f"{figure['value']:.4f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def figures_sheet(metrics: dict[str, dict[str, Any]], level: str) -> Sheet:
    """Return the table of one level, a line per detector."""
    keys = list(next(iter(metrics.values()))[level])
    silent = any("cannot_say" in m for m in metrics.values())
    columns = ["Detector", "Real / fake", "No score", *(key.upper().replace("_", " ") for key in keys)]
    columns += ["Risk–coverage area", *(["Gets a verdict", "of it wrong"] * silent)] if level == "video" else []
    rows = []
    for name, m in metrics.items():
        counts = m["counts"]
        row = [name, f"{counts[f'{level}s_real']} / {counts[f'{level}s_fake']}", str(m["missing"])]
        row += [_interval(m[level][key]) if key == "auc" else _interval({**m[level][key], "low": None}) for key in keys]
        if level == "video":
            row.append(f"{m['risk_coverage']['area']:.4f}")
            if silent:
                said = m["cannot_say"]
                row += [f"{said['coverage']:.1%}", "–" if said["error"] is None else f"{said['error']:.1%}"]
        rows.append(row)
    people = next((m["counts"]["people"] for m in metrics.values() if "people" in m["counts"]), None)
    drawn = "videos" if people is None else f"people (at most {people} known)"
    note = f"{level.capitalize()} level; brackets: 95 % interval by bootstrap over {drawn}; accuracy at 0.5."
    if silent:
        alpha = next(m["cannot_say"]["alpha"] for m in metrics.values() if "cannot_say" in m)
        note += f" Verdicts by limits that let at most {alpha:.0%} of reals and of fakes be called wrongly on data like those."
    return Sheet(f"Scores, {level} level", note, columns, rows)


def groups_sheet(reports: dict[tuple[str, str], GroupReport], most: int | None = None) -> Sheet:
    """Return the table of groups, worst first; at most so many of each detector and column."""
    columns = ["Detector", "Column", "Group", "Real / fake", "AUC", "over", "Fakes found", "False alarms"]
    rows = []
    for (name, column), report in reports.items():
        for one in report.groups[:most]:
            rates = [_interval(one.found), _interval(one.false_alarms)]
            rows.append([name, column, one.name, f"{one.real} / {one.fake}", _interval(one.auc), one.against, *rates])
        rows.append([name, column, "mean", "", _interval(report.macro), "", "", ""])
        rows.append([name, column, "best less worst", "", _interval(report.gap), "", "", ""])
    note = "Video AUC group by group, worst first. A group of one class is set against all of the other; "
    note += "mean and gap are of groups that have fakes. Brackets: 95 % intervals."
    note += f" The {most} worst of each; groups.csv has all." if most else ""
    return Sheet("Groups", note, columns, rows)


def group_lines(reports: dict[tuple[str, str], GroupReport]) -> list[dict[str, Any]]:
    """Return every group as a row of groups.csv."""
    return [
        {
            **dict(zip(GROUP_FIELDS, (name, column, one.name, one.real, one.fake, one.against))),
            "auc": one.auc["value"],
            "low": one.auc["low"],
            "high": one.auc["high"],
            "found": one.found["value"],
            "false_alarms": one.false_alarms["value"],
        }
        for (name, column), report in reports.items()
        for one in report.groups
    ]


def pairs_sheet(rows: Sequence[dict[str, Any]]) -> Sheet:
    """Return the table of comparisons, the most certain differences first."""
    ordered = sorted(rows, key=lambda row: (row["p_holm"], -abs(row["difference"])))
    columns = ["A", "B", "Videos", "AUC of A", "AUC of B", "A − B", "p DeLong", "p Holm"]
    lines = [
        [
            *(r["a"], r["b"], str(r["videos"]), f"{r['auc_a']:.4f}", f"{r['auc_b']:.4f}"),
            *(f"{r['difference']:+.4f} [{r['low']:+.3f}, {r['high']:+.3f}]", f"{r['p']:.3g}", f"{r['p_holm']:.3g}"),
        ]
        for r in ordered
    ]
    compared = f"{len(lines)} comparison{'s' * (len(lines) != 1)}"
    note = f"Every two detectors on the videos that both scored; p corrected for {compared} (Holm)."
    return Sheet("Comparisons", note, columns, lines)
