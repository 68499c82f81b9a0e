"""What has only ever seen rendered faces has nothing to say of photographed ones."""

from collections.abc import Iterable
from pathlib import Path

from common.datasets import plain_name

RENDERED = ("DemoForensics", "DemoCeleb", "DemoWild")
"""Datasets that `make demo-data` renders; nobody in them exists."""
WORDS = "synthetic faces"
"""What the `data_note` of a run on rendered faces of one's own says."""
REASON = "the detector was trained on rendered faces only and this file is none of the demo's; what it scores here means nothing"


def trained_on_rendered(datasets: Iterable[str], note: str | None) -> bool:
    """Return whether all of a run's training data are rendered, by the datasets' names or by what its note says."""
    names = list(datasets)
    return WORDS in (note or "").lower() or (bool(names) and all(plain_name(name) in RENDERED for name in names))


def is_rendered(path: str | Path) -> bool:
    """Return whether a file lies in a folder of the demo's data, by the dataset's name. A copy elsewhere is anybody's file."""
    return any(part in RENDERED for part in Path(path).absolute().parts[:-1])
