"""What the detectors say of themselves agrees with the benchmark's published table."""

import csv
from pathlib import Path

import pytest

from training.detectors import available_detectors
from training.detectors.registry import detector_class

PUBLISHED = Path(__file__).parents[3] / "analysis" / "reference" / "published_auc.csv"
NAMES = {"MesoIncep": "MesoInception4", "EfficientB4": "EfficientNet-B4", "Recce": "RECCE"}  # there → here

with PUBLISHED.open() as file:
    ROWS = list(csv.DictReader(file))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["Detector"])
def test_every_published_detector_is_here_under_its_name_and_type(row):
    cards = [detector_class(name).card for name in available_detectors()]
    title = NAMES.get(row["Detector"], row["Detector"])
    assert [card.kind for card in cards if card.title == title] == [row["Type"].lower()]


def test_the_published_table_has_fifteen_detectors():
    assert len(ROWS) == 15
