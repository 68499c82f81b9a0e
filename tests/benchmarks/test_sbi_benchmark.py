"""The benchmark of self-blended images: its plain version makes the same blends."""

import re

import pytest

from benchmarks import sbi


@pytest.mark.slow
def test_a_quick_run_compares_files_and_database_on_the_same_blends():
    rows = sbi.run(quick=True)
    assert [row["name"].partition(" from ")[2] for row in rows] == [
        "PNG files, one core",
        "a database of codec raw, one core",
    ]
    for row in rows:
        assert row["unit"] == "pairs/s"
        worst, mean = re.match(r"max \|Δ\| (\d+) of 255, mean (\S+)", row["agreement"]).groups()
        assert int(worst) <= 2
        assert float(mean) < 0.1
