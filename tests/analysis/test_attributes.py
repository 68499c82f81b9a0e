"""Groups by a CSV of attributes: figures of a run's own predictions, and one sentence for what does not fit."""

import csv

import numpy as np
import pytest

from analysis.groups import assign, main
from common.errors import ConfigError, DataError
from common.rundir import open_run
from training.metrics import evaluate


def write(path, heading, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([heading, *rows])
    return path


def test_groups_of_a_run_by_attributes(own_run, tmp_path, capsys):
    data = open_run(own_run).predictions("Celeb-DF-v2")
    videos = np.unique(data.video).tolist()
    light = dict(zip(videos, np.resize(["day", "night"], len(videos))))
    table = write(tmp_path / "light.csv", ["video", "light", "empty"], [[v, light[v], ""] for v in videos])
    assert main([str(own_run), "--attributes", str(table)]) == 0
    with open(own_run / "analysis/groups/groups.csv", newline="") as file:
        rows = {row["group"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"day", "night"}
    assert {row["dataset"] for row in rows.values()} == {"Celeb-DF-v2"}
    for name, row in rows.items():
        part = data.where(np.array([light[v] == name for v in data.video.tolist()]))
        if not part.one_class:
            wanted = evaluate(part.label, part.prob, part.video, bootstrap=0)["video"]["auc"]["value"]
            assert float(row["auc"]) == pytest.approx(wanted)
            assert float(row["low"]) <= wanted <= float(row["high"])
    assert "best less worst" in capsys.readouterr().out
    assert "light.csv" in (own_run / "report.html").read_text()


def test_what_does_not_fit_is_one_sentence(own_run, tmp_path):
    videos = np.unique(open_run(own_run).predictions("Celeb-DF-v2").video).tolist()
    cases = [
        (["video", "age"], [["nobody", "3"]], DataError, "the video nobody is in no test set"),
        (["video", "prob"], [[videos[0], "3"]], ConfigError, "has a column `prob` of its own"),
        (["video", "age"], [[videos[0], "3"], [videos[0], "4"]], DataError, "twice"),
        (
            ["video", "age"],
            [[videos[0], "3"], [videos[1].partition("/")[2], "4"]],
            DataError,
            "may be .* or .*; write more",
        ),
        (["video"], [[videos[0]]], ConfigError, "no column beside `video`"),
        (["who", "age"], [["a", "3"]], ConfigError, "no column `video`"),
        (["video", "age"], [[videos[0], ""]], DataError, "gives no group"),
    ]
    for heading, rows, kind, message in cases:
        with pytest.raises(kind, match=message):
            main([str(own_run), "--attributes", str(write(tmp_path / "a.csv", heading, rows))])
    assert not (own_run / "analysis/groups").exists()
    with pytest.raises(DataError, match="names the video d/real/1 twice"):
        assign({"d/real/1": {}, "1": {}}, {"d/real/1", "d/real/2"}, tmp_path / "a.csv")
