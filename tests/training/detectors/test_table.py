"""The table of detectors: `python -m training.detectors`."""

import json

from training.detectors.__main__ import main


def test_the_table_shows_what_each_detector_is(tmp_path, capsys):
    assert main(["meso4", "xception", "--json", str(tmp_path / "table.json")]) == 0
    header, rule, meso, xception = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "type", "paper", "year", "parameters", "input", "parity"]
    assert set(rule) == {"-", " "}
    assert "27,946" in meso
    assert "20.8 M  3 × 256 × 256  DeepfakeBench" in xception
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [row["parameters"] for row in rows] == [27946, 20811050]
    assert rows[1]["paper"] == "FaceForensics++: Learning to Detect Manipulated Facial Images"
