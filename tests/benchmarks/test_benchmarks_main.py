import json
import subprocess
import sys

import pytest

import benchmarks
from benchmarks import median_seconds, row
from benchmarks.__main__ import available_benchmarks, choose, main, table
from common.errors import ConfigError

KEYS = {"name", "unit", "ours", "reference", "ratio", "agreement", "machine"}


def test_ratio_says_how_many_times_better():
    assert row("a", "s", 2.0, 6.0, None)["ratio"] == 3
    assert row("a", "images/s", 6.0, 2.0, None)["ratio"] == 3
    assert row("a", "s", 2.0, None, None)["ratio"] is None
    assert set(row("a", "s", 1.0, 1.0, "same")) == KEYS


def test_median_and_warm_up_are_counted(monkeypatch):
    ticks = iter([0.0, 1.0, 10.0, 15.0, 20.0, 22.0])
    monkeypatch.setattr(benchmarks.time, "perf_counter", lambda: next(ticks))
    calls = []
    assert median_seconds(lambda: calls.append(1), repeats=3, warmup=2) == 2.0
    assert len(calls) == 5


def test_listing_names_every_module_with_run():
    known = available_benchmarks()
    assert "metrics" in known
    assert "__main__" not in known
    assert all(known.values()), "each benchmark says what it measures"
    assert choose("all") == list(known)


def test_unknown_name_is_answered_with_the_right_ones():
    with pytest.raises(ConfigError, match=r"`speed`.*metrics"):
        choose("speed")


def test_command_writes_rows_and_prints_a_table(tmp_path, capsys):
    assert main(["metrics", "--quick", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert rows
    assert all(set(entry) == KEYS for entry in rows)
    printed = capsys.readouterr().out
    assert all(entry["name"] in printed for entry in rows)
    # The benchmark's own claim: both ways find the same figures.
    assert float(rows[0]["agreement"].split()[-1]) < 1e-3


def test_table_lines_up():
    lines = table([row("short", "s", 1.0, 2.0, "x"), row("a longer name", "images/s", 1234.5, None, None)]).splitlines()
    assert lines[0].index("unit") == lines[2].index("s ", 10) == lines[3].index("images/s")


def test_program_ends_with_one_sentence_on_a_wrong_name():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no benchmark `nothing`; choose from all, ")
    assert "Traceback" not in done.stderr
