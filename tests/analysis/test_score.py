"""Anybody's scores: the command reads the usual and the unusual file, says what is wrong, and computes what testing computes."""

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.said import only_error

from analysis.reporting.score_file import Columns, read_scores
from analysis.score import compare, group_rows, limits_of, main, measure
from common.errors import ConfigError, DataError
from training.metrics import delong, evaluate
from training.metrics.significance import holm

ROOT = Path(__file__).resolve().parents[2]


def write(path, header, rows, delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


@pytest.fixture
def file(tmp_path):
    """Forty videos of two frames by ten people; detector `b` has not scored the last video."""
    rng = np.random.default_rng(0)
    rows = []
    for video in range(40):
        fake, noise = video % 2, rng.normal(size=3)
        for frame in range(2):
            a, b = 1 / (1 + np.exp(-(noise[:2] + [1.5, 0.5] * np.array(fake) + 0.1 * rng.normal(size=2))))
            kind = ["coco", "gan" if video % 4 == 1 else "swap"][fake]
            split = "val" if video < 8 else "test"
            rows.append([f"v{video}", frame, ["real", "fake"][fake], f"{a:.6f}", f"{b:.6f}" * (video < 39), kind,
                         f"p{video % 10}" * (video > 2), split])  # fmt: skip
    return write(
        tmp_path / "mine.csv", ["id", "frame", "label", "prob_a", "prob_b", "generator", "person", "split"], rows
    )


def test_figures_are_those_of_testing(file):
    data = read_scores(file)
    figures = measure(data, resamples=50)
    assert list(figures) == ["a", "b"]
    wanted = evaluate(data.label, data.scores["a"], data.video, bootstrap=50, person=data.person)
    assert {key: figures["a"][key] for key in wanted} == wanted
    assert (figures["a"]["scored"], figures["a"]["missing"]) == (80, 0)
    assert (figures["b"]["scored"], figures["b"]["missing"]) == (78, 2)
    assert figures["b"]["counts"]["people"] == 10


def test_comparison_is_of_the_videos_that_both_scored_and_corrected(file):
    (row,) = compare(read_scores(file))
    with open(file) as lines:
        rows = [row for row in csv.DictReader(lines) if row["prob_b"]]
    names = list(dict.fromkeys(row["id"] for row in rows))
    mean = {
        k: [np.mean([float(r[k]) for r in rows if r["id"] == name]) for name in names] for k in ("prob_a", "prob_b")
    }
    person = [next(r["person"] or r["id"] for r in rows if r["id"] == name) for name in names]
    test = delong([int(name[1:]) % 2 for name in names], mean["prob_a"], mean["prob_b"], person)
    assert row["videos"] == 39
    assert (row["difference"], row["p"]) == pytest.approx((test.difference, test.p))
    assert row["p_holm"] == holm([row["p"]])[0]


def test_the_command_writes_tables_and_a_page(file, tmp_path, capsys):
    out = tmp_path / "out"
    flags = ["--groups", "generator", "--compare", "--limits_from", "split=val", "--alpha", "0.3", "--resamples", "40"]
    assert main(["--scores", str(file), *flags, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "| a | 16 / 16 |" in said
    figures = json.loads((out / "scores.json").read_text())
    data = read_scores(file)
    held_out = data.matching({"split": "val"})
    limits = limits_of(data.where(held_out), 0.3)
    assert figures["a"]["cannot_say"]["low"] == limits["a"].low
    assert figures["a"]["counts"]["videos_real"] == 16
    with open(out / "groups.csv") as lines:
        groups = list(csv.DictReader(lines))
    assert {(row["detector"], row["group"]) for row in groups} == {
        (d, g) for d in "ab" for g in ("coco", "gan", "swap")
    }
    worst = [float(row["auc"]) for row in groups if row["detector"] == "a"]
    assert worst == sorted(worst)
    assert (out / "comparison.csv").exists()
    page = (out / "scores.html").read_text()
    assert page.count("<img") == 2  # ROC, risk over coverage
    for words in ("Scores, video level", "Groups", "Comparisons", "best less worst", "Gets a verdict"):
        assert words in page


def test_neither_torch_nor_opencv_is_imported(file, tmp_path):
    code = (
        "import sys; from analysis.score import main; "
        f"main(['--scores', {str(file)!r}, '--groups', 'generator', '--compare', '--resamples', '5',"
        f" '--out', {str(tmp_path)!r}]); "
        "print([name for name in ('torch', 'cv2', 'torchvision', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_other_spellings_are_understood(tmp_path):
    rows = [["x/1.png", 0.0, -3.0], ["x/2.png", 1.0, 2.0], ["x/3.png", 0.0, 800]]
    plain = write(tmp_path / "a.csv", ["Path", "is_fake", "Score"], rows, delimiter=";")
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    for path in (plain, packed):
        data = read_scores(path, logits=True)
        assert data.label.tolist() == [0, 1, 0]
        assert data.video == ["x/1.png", "x/2.png", "x/3.png"]
        assert data.scores["Score"] == pytest.approx([1 / (1 + np.exp(3)), 1 / (1 + np.exp(-2)), 1])
        assert data.person is None


def test_one_class_and_empty_columns(file, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["--scores", str(file), "--where", "label=fake", "--groups", "generator", "--out", str(out)]) == 0
    figures = json.loads((out / "scores.json").read_text())
    assert figures["a"]["one_class"]["class"] == "fake"
    assert figures["a"]["frame"]["auc"]["value"] is None
    assert not (out / "groups.csv").exists()
    assert main(["--scores", str(file), "--where", "id=v39", "--out", str(out)]) == 0
    assert "left out: b" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        ("id,label,prob\na,real,0.1\nb,maybe,0.2\n", [], r"line 3: `maybe` in `label` is no label"),
        ("id,label,prob\na,real,1.7\n", [], "line 2: 1.7 in `prob` is no probability; for log-odds say --logits"),
        ("id,label,prob\na,real,x\n", [], "line 2: `x` in `prob` is no number"),
        ("id,label,prob\na,real\n", [], "line 2 has not as many values as the heading"),
        ("id,label,prob\n", [], "has no rows"),
        ("id,label,points\na,real,1\n", [], "no column of scores is known; name one by --score: id, label, points"),
        ("id,truth,prob\na,real,1\n", [], "no column is called label"),
        ("id,label,prob\na,real,1\n", ["--label", "truth"], "there is no column `truth`; the file has id, label, prob"),
        ("id,label,prob\na,real,1\n", ["--groups", "age"], "there is no column `age`"),
        ("id,label,prob\na,real,1\n", ["--where", "label=1"], "no row has label=1; there is real"),
        ("id,label,prob\na,real,1\n", ["--where", "label"], "--where takes COLUMN=VALUE, not label"),
        ("id,label,prob\na,real,\n", [], "none of prob has a score on these lines"),
        ("id,label,prob\na,real,0.5\na,fake,0.5\n", [], "video a of prob has frames of both labels"),
        ("id,label,prob\na,real,1\nb,fake,1\n", ["--limits_from", "label=real", "--alpha", "2"], "alpha must lie"),
        ("id,label,prob,k\na,real,.1,x\na,real,.1,y\nb,fake,1,x\n", ["--groups", "k"], "a group is of whole videos"),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_written(tmp_path, content, flags, words):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises((ConfigError, DataError), match=words) as caught:
        main(["--scores", str(path), *flags, "--out", str(tmp_path / "out")])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_files_that_are_none(tmp_path):
    binary = tmp_path / "x.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    broken = tmp_path / "x.csv.gz"
    broken.write_bytes(gzip.compress(b"id,label,prob\na,real,0.1\n" * 50)[:40])
    for path in (binary, broken, tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match="cannot read"):
            read_scores(path)


def test_an_error_ends_the_program_with_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "analysis/score.py", "--scores", str(tmp_path / "none.csv")],
        capture_output=True, text=True, cwd=ROOT, timeout=100,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot read" in only_error(done.stderr)


def test_groups_are_of_videos_and_people(file):
    data = read_scores(file, Columns(groups=("generator", "split")))
    reports = group_rows(data, resamples=10)
    assert set(reports) == {(d, c) for d in "ab" for c in ("generator", "split")}
    kinds = {one.name: one for one in reports["a", "generator"].groups}
    assert (kinds["gan"].real, kinds["gan"].fake, kinds["gan"].against) == (0, 10, "all reals")
    assert {one.against for one in reports["a", "split"].groups} == {"its own"}
