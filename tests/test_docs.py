"""The pages of docs/ that are made from the code agree with it."""

import importlib.util
import re
from pathlib import Path

import pytest

from training.detectors.registry import available_detectors

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
spec = importlib.util.spec_from_file_location("docs_make", DOCS / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
AGAIN = "run `python docs/make.py`"


@pytest.mark.parametrize("name", ["config", "datasets"])
def test_pages_are_those_of_the_code(name):
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == make.page(name), AGAIN


@pytest.mark.parametrize("name", available_detectors())
def test_the_page_of_detectors_says_what_each_is(name):
    """Each is built, without memory, for its row: the table's command works for all of them."""
    page = (DOCS / "detectors.md").read_text(encoding="utf-8")
    assert f"\n{make.detector_row(name)}\n" in page, AGAIN
    assert f"\n## {name}\n\n{make.docstring(name)}\n" in page, AGAIN


def test_the_page_of_detectors_has_no_other():
    page = (DOCS / "detectors.md").read_text(encoding="utf-8")
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert titles == list(available_detectors()), AGAIN


PAGES = [path for path in sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("[!.]*/**/*.md")) if ".venv" not in path.parts]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Every relative link of a page is a file, and what follows a # is one of its headings."""
    for place in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in place:
            continue
        name, _, heading = place.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} → {place}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page.name} → {place}"
