"""The index benchmark measures what it says on its synthetic index."""

import pytest

from benchmarks import index_scale
from training.dataset.index.table import build_table


def test_the_synthetic_index_is_one(tmp_path):
    path = tmp_path / "index.json"
    index_scale.write_index(path, 2400)
    table = build_table(path.read_text(), index_scale.NAME, "index.json")
    assert len(table) == 8
    assert len(table.number) == 2400
    assert int(table.masked.sum()) == 1800  # three fakes to one real, all fakes with masks


@pytest.mark.slow
def test_a_quick_run_gives_all_rows():
    rows = index_scale.run(quick=True)
    assert all(row.keys() >= {"name", "unit", "ours", "reference", "ratio", "agreement", "machine"} for row in rows)
    assert {row["agreement"] for row in rows} == {"frames equal", None}
    # What a worker adds for itself must stay far below the index as Python objects.
    own = [row["ours"] for row in rows if "own memory" in row["name"]]
    assert len(own) == 2
    assert max(own) < 8
