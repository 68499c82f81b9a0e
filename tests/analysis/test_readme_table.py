"""The published table of docs/results.md is the reference data, not a copy that drifts."""

import csv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_readme_shows_the_published_figures():
    with open(ROOT / "analysis/reference/published_auc.csv", newline="") as file:
        published = {row["Detector"]: row for row in csv.DictReader(file)}
    lines = (ROOT / "docs" / "results.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| detector | FF++_c23"))
    columns = [cell.strip() for cell in lines[start].strip("|").split("|")]
    shown = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        shown[cells[0]] = dict(zip(columns[1:], cells[1:], strict=True))
    assert shown == {name: {column: row[column] for column in columns[1:]} for name, row in published.items()}
