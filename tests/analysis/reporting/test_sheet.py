"""Small tables of texts in the formats of papers."""

import csv
import re
from html.parser import HTMLParser

from analysis.reporting.sheet import Sheet, latex_text, to_html, to_latex, to_markdown, write_csv, write_sheet

SHEET = Sheet("Costs & more", "Speed in 10 % steps.", ["Detector", "Speed"], [["clip_ln", "3 ± 1"], ["a|b <i>", "4–5"]])


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.open = [], None

    def handle_starttag(self, tag, attrs):
        self.open = tag

    def handle_data(self, data):
        if self.open in ("td", "th", "title"):
            self.found.append(data)

    def handle_endtag(self, tag):
        self.open = None


def test_latex_prints_what_is_meant():
    assert latex_text(r"50 % of a_b & c^2 ± 1 \ {x} ~ − –") == (
        r"50 \% of a\_b \& c\textasciicircum{}2 $\pm$ 1 \textbackslash{} \{x\} \textasciitilde{} $-$ --"
    )
    text = to_latex(SHEET)
    assert r"clip\_ln & 3 $\pm$ 1 \\" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert {line.count("&") for line in text.splitlines() if line.endswith(r"\\")} == {1}


def test_markdown_has_one_width():
    lines = [line for line in to_markdown(SHEET).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}
    assert r"a\|b" in lines[3]


def test_html_says_the_same_cells():
    cells = Cells()
    cells.feed(to_html(SHEET))
    assert cells.found == ["Costs & more", "Detector", "Speed", "clip_ln", "3 ± 1", "a|b <i>", "4–5"]


def test_files(tmp_path):
    assert [path.name for path in write_sheet(SHEET, tmp_path, "x")] == ["x.md", "x.tex", "x.html"]
    path = write_csv([{"a": 1, "b": "x,y"}], ("a", "b"), tmp_path / "x.csv")
    with open(path, newline="") as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": "x,y"}]
