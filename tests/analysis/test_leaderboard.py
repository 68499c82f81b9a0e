import csv
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from analysis.leaderboard import compare_runs, main, write_leaderboard
from analysis.reporting.common_videos import alike
from analysis.reporting.leaderboard_formats import caption, to_html, to_latex, to_markdown
from analysis.reporting.leaderboard_table import (
    PUBLISHED,
    Entry,
    build_table,
    published_entries,
    run_entry,
    seeds_entry,
    within_of,
)
from common.errors import DataError
from common.rundir import open_run
from training.metrics import evaluate


def entry(name, **figures):
    return Entry(name, {key.replace("_", "-"): (value, None, None) for key, value in figures.items()})


def test_published_averages_follow_from_the_published_figures():
    with open(PUBLISHED, newline="") as file:
        rows = {row["Detector"]: row for row in csv.DictReader(file)}
    table = build_table(published_entries(), "frame")
    assert len(table.entries) == 15
    assert (len(table.within), len(table.cross)) == (6, 8)
    for line in table.entries:
        for column in ("Avg. within-domain", "Avg. cross-domain"):
            # The printed averages have four decimals, and were taken before the figures were rounded.
            assert table.value(line, column) == pytest.approx(float(rows[line.name][column]), abs=7e-5), line.name


def test_averages_need_every_test_set():
    table = build_table([entry("a", CDFv1=0.9, DFDC=0.7), entry("b", CDFv1=0.95)], "frame")
    assert table.value(table.entries[0], "Avg. cross-domain") == pytest.approx(0.8)
    assert table.value(table.entries[1], "Avg. cross-domain") is None
    assert table.summary == ["Avg. cross-domain", "Top3 cross-domain"]


def test_top_three_counts_ties_with_the_third():
    lines = [entry(n, DFDC=v) for n, v in zip("abcde", (0.9, 0.8, 0.7, 0.7, 0.6))]
    table = build_table(lines, "frame")
    assert [table.value(line, "Top3 cross-domain") for line in lines] == [1, 1, 1, 1, 0]


def test_best_is_bold_once_in_each_format():
    table = build_table([entry("a_1", FF_DF=0.91, DFDC=0.7), entry("b|2", FF_DF=0.8, DFDC=0.75)], "frame")
    markdown = to_markdown(table).splitlines()
    assert "**0.9100**" in markdown[2]
    assert "**0.7500**" in markdown[3]
    assert "**0.7000**" not in markdown[2]
    assert r"b\|2" in markdown[3]
    assert to_html(table).count("<b>0.9100</b>") == 2  # the figure, and the average of one test set
    latex = to_latex(table)
    assert r"a\_1" in latex
    assert latex.count(r"\textbf{0.7500}") == 2
    assert latex.count(r"\begin{") == latex.count(r"\end{") == 2
    widths = {line.count("&") for line in latex.splitlines() if line.endswith(r"\\") and "multicolumn" not in line}
    assert len(widths) == 1


def test_published_rows_are_marked_and_their_source_is_named(run_dir):
    table = build_table([*published_entries(), run_entry(open_run(run_dir), "ours", "frame")], "frame")
    assert "arXiv 2307.01426" in caption(table)
    assert "procedurally rendered" in caption(table)
    assert r"| Xception\* |" in to_markdown(table)
    assert "| ours |" in to_markdown(table)
    assert {"FF++_c23", "CDFv2"} <= set(table.entries[-1].figures)


def test_runs_are_matched_by_frame_whatever_their_order(make_run_dir):
    a, b = make_run_dir("a", datasets=("X",), gain=2.5), make_run_dir("b", datasets=("X",), gain=0.2, seed=1)
    path = b / "results/X/predictions.csv"
    head, *lines = path.read_text().splitlines()
    np.random.default_rng(0).shuffle(lines)
    path.write_text("\n".join([head, *lines]) + "\n")
    for level in ("frame", "video"):
        (row,) = compare_runs([open_run(a), open_run(b)], ["a", "b"], level, resamples=300)
        for name, run in (("a", open_run(a)), ("b", open_run(b))):
            data = run.predictions("X")
            data = data.by_video() if level == "video" else data
            assert row[f"auc_{name}"] == pytest.approx(roc_auc_score(data.label, data.prob))
        assert row["p_delong"] < 0.01
        assert row["p_bootstrap"] < 0.02
        assert row["low"] > 0
    path.write_text("\n".join([head, *lines[1:]]) + "\n")
    with pytest.raises(DataError, match="different frames of X"):
        compare_runs([open_run(a), open_run(b)], ["a", "b"])


def test_command_writes_every_format(run_dir, make_run_dir, tmp_path, capsys):
    other = make_run_dir("other", gain=0.3, detector="xception")
    main([str(run_dir), str(other), "--published", "--compare", "--out", str(tmp_path / "out")])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        f"{stem}.{s}"
        for stem in ("leaderboard_frame", "leaderboard_video", "comparison")
        for s in ("csv", "md", "tex", "html")
    }
    with open(tmp_path / "out" / "comparison.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3 * 2
    with open(tmp_path / "out" / "leaderboard_frame.csv", newline="") as file:
        rows = {row["detector"]: row for row in csv.DictReader(file)}
    assert len(rows) == 17
    value = open_run(run_dir).datasets["DFDCP"]["frame"]["auc"]
    assert float(rows["clip_ln"]["DFDCP_low"]) == value["low"]
    assert rows["Xception"]["source"] == "arXiv 2307.01426"
    assert "xception" in capsys.readouterr().out
    report = (other / "report.html").read_text()
    assert "Leaderboard, frame level" in report
    assert "Comparison of runs" in report
    best = max(rows.values(), key=lambda row: float(row["CDFv2"] or 0))["CDFv2"]
    assert f"<b>{float(best):.4f}" in report
    assert "**" not in report.partition("Leaderboard, frame level")[2]


def test_tables_go_into_a_folder_of_their_own(make_run_dir, tmp_path, monkeypatch, capsys):
    run = make_run_dir("run")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    main([str(run)])
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["logs"]
    assert (tmp_path / "here/logs/leaderboard/leaderboard_frame.md").exists()
    assert "logs/leaderboard/leaderboard_frame.md" in capsys.readouterr().out


def test_several_seeds_are_one_row_with_mean_and_deviation(make_run_dir, tmp_path):
    runs = [open_run(make_run_dir(f"s{seed}", datasets=("Celeb-DF-v2", "X"), seed=seed)) for seed in range(3)]
    runs.append(open_run(make_run_dir("short", datasets=("Celeb-DF-v2",), seed=3)))
    found = seeds_entry(runs, "ours", "video")
    values = [run.datasets["Celeb-DF-v2"]["video"]["auc"]["value"] for run in runs]
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    assert found.figures["CDFv2"] == pytest.approx((mean, mean - deviation, mean + deviation))
    assert set(found.figures) == {"CDFv2"}, "a mean over some of the seeds would be compared with means over all"
    written = write_leaderboard({"ours": runs}, tmp_path / "out", stem="main")
    assert {path.name for path in written} >= {"main_frame.md", "main_video.tex"}
    assert "mean ± standard deviation over 4 seeds" in (tmp_path / "out/main_frame.md").read_text()


def test_each_row_is_within_the_domain_that_it_was_trained_in(make_run_dir, tmp_path):
    sets = ("FaceForensics++", "Celeb-DF-v2", "DFDCP")
    a, b = (open_run(make_run_dir(name, datasets=sets)) for name in "ab")
    b.summary["train_dataset"] = ["Celeb-DF-v1"]
    table = build_table([run_entry(a, "a", "frame"), run_entry(b, "b", "frame")], "frame")
    assert (table.within, table.mixed, table.cross) == ([], ["FF++_c23", "CDFv2"], ["DFDCP"])
    for line, own, others in zip(table.entries, ("FF++_c23", "CDFv2"), (["CDFv2", "DFDCP"], ["FF++_c23", "DFDCP"])):
        assert table.value(line, "Avg. within-domain") == line.figures[own][0]
        assert table.value(line, "Avg. cross-domain") == pytest.approx(np.mean([line.figures[n][0] for n in others]))
        assert not table.is_best(line, "Avg. cross-domain"), "averages over different sets do not compare"
    rows = to_markdown(table).splitlines()[2:4]
    assert [row.count("†") for row in rows] == [1, 1]
    assert "†: within the domain of that row" in caption(table)
    widths = {
        line.count("&") for line in to_latex(table).splitlines() if line.endswith(r"\\") and "multicol" not in line
    }
    assert len(widths) == 1
    assert build_table(table.entries, "frame", ["DFDCP"]).within == ["DFDCP"], "what the user names is of every row"
    a.datasets["DFDCP"]["frame"]["auc"] = {"value": None, "low": None, "high": None}
    assert "DFDCP" not in run_entry(a, "a", "frame").figures


def test_test_sets_of_the_training_domain(make_run_dir):
    a, b = (open_run(make_run_dir(n, datasets=("FaceForensics++", "FaceForensics++_c40", "X"))) for n in "ab")
    assert set(within_of([a, b])) >= {"FaceForensics++", "FaceForensics++_c40", "FF-DF"}
    assert "X" not in within_of([a, b])
    b.summary["train_dataset"] = ["X"]
    assert "FaceForensics++" not in within_of([a, b]), "not trained on by both"


def drop(run_dir, dataset, *videos):
    """Let a run not have scored some videos: of its predictions and its figures."""
    path = run_dir / f"results/{dataset}/predictions.csv"
    kept = [line for line in path.read_text().splitlines() if line.split(",")[0].rpartition("/")[2] not in videos]
    path.write_text("\n".join(kept) + "\n")
    data = open_run(run_dir).predictions(dataset)
    summary = json.loads((run_dir / "results/results.json").read_text())
    summary["datasets"][dataset] = evaluate(data.label, data.prob, data.video, bootstrap=50)
    (run_dir / "results/results.json").write_text(json.dumps(summary))


def test_runs_that_scored_different_videos_do_not_compare_unless_on_the_common_ones(make_run_dir, tmp_path):
    a, b = (make_run_dir(name, datasets=("X", "DFDCP"), seed=i) for i, name in enumerate("ab"))
    drop(a, "X", "000", "002")
    drop(b, "X", "003")
    words = [str(a), str(b), "--names", "a", "b", "--out", str(tmp_path / "out")]
    with pytest.raises(DataError, match=r"different videos of X \(38 and 39, 37 in common\).*--common"):
        main(words)
    assert not (tmp_path / "out").exists()
    assert main([*words, "--common"]) == 0
    text = (tmp_path / "out/leaderboard_video.md").read_text()
    assert "Of X only the 37 videos that every run scored count." in text
    with open(tmp_path / "out/leaderboard_video.csv", newline="") as file:
        rows = {row["detector"]: row for row in csv.DictReader(file)}
    for name, run in (("a", open_run(a)), ("b", open_run(b))):
        data = run.predictions("X").by_video()
        shared = ~np.isin([video[-3:] for video in data.video.tolist()], ["000", "002", "003"])
        assert shared.sum() == 37
        assert float(rows[name]["X"]) == pytest.approx(roc_auc_score(data.label[shared], data.prob[shared]))
        assert float(rows[name]["DFDCP"]) == run.datasets["DFDCP"]["video"]["auc"]["value"], "the same of both stays"
    same = alike([open_run(a), open_run(b)], common=True)
    (row, _) = compare_runs(same.runs, ["a", "b"], "video", resamples=20)
    assert row["auc_a"] == pytest.approx(float(rows["a"]["X"]))


def test_runs_without_a_common_class_say_so(make_run_dir, tmp_path):
    a, b = (make_run_dir(name, datasets=("X",)) for name in "ab")
    numbers = [f"{n:03d}" for n in range(40)]
    drop(a, "X", *numbers[0::4], *numbers[1::4][:5])
    drop(b, "X", *numbers[1::4][5:])
    with pytest.raises(DataError, match="no real, or no fake, video of X in common"):
        main([str(a), str(b), "--names", "a", "b", "--out", str(tmp_path), "--common"])


def test_one_set_under_two_names_is_the_same_set(make_run_dir):
    """FaceForensics++ is its c23: a digest leaves the dataset's own name out."""
    ends = {"a": "", "b": "_c23"}
    runs = [open_run(make_run_dir(name, datasets=(f"FaceForensics++{end}",))) for name, end in ends.items()]
    assert alike(runs).notes == []
    runs[1].datasets["FaceForensics++_c23"]["coverage"] = {"videos": "other"}
    with pytest.raises(DataError, match=r"different videos of FF\+\+_c23"):
        alike(runs)
    drop(runs[0].path, "FaceForensics++", "000")
    found = alike([open_run(run.path) for run in runs], common=True)
    assert found.notes == ["Of FF++_c23 only the 39 videos that every run scored count."]


def with_coverage(run, missing="exclude"):
    tested = {"expected": 22, "scored": 20, "no_face": 1, "unreadable": 1, "absent": 0, "skipped": 0}
    whole = {"expected": 20, "scored": 20, "no_face": 0, "unreadable": 0, "absent": 0, "skipped": 0}
    for metrics in run.datasets.values():
        metrics["coverage"] = {"real": tested, "fake": whole, "missing": missing, "videos": "abc"}
        metrics["counts"] |= {"people": 7, "videos_of_unknown_people": 0}
    return run


def test_a_table_says_what_its_figures_stand_on(make_run_dir, tmp_path):
    run = with_coverage(open_run(make_run_dir("run", datasets=("X",))))
    written = write_leaderboard({"ours": [run]}, tmp_path)
    stands = "X: 40 of 42 videos (1 without a face, 1 unreadable; left out), 7 people"
    for path in written:
        if path.suffix != ".csv":
            assert stands in path.read_text()
    with open(tmp_path / "leaderboard_frame.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    told = {key: row[f"X_{key}"] for key in ("expected", "scored", "no_face", "unreadable", "missing", "people")}
    assert told == dict(zip(told, ("42", "40", "1", "1", "exclude", "7")))
    assert stands in (run.path / "analysis/leaderboard_frame/section.json").read_text()
    old = write_leaderboard({"old": [open_run(make_run_dir("old", datasets=("X",)))]}, tmp_path / "old")
    assert "X: 40 of an unknown number of videos, an unknown number of people" in old[1].read_text()


def test_of_few_videos_the_interval_comes_first(make_run_dir):
    run = open_run(make_run_dir("run", datasets=("X",)))
    few = run_entry(run, "ours", "frame")
    value, low, high = few.figures["X"]
    assert few.few == {"X"}
    table = build_table([few, entry("other", X=0.1)], "frame")
    assert f"**[{low:.3f}, {high:.3f}] {value:.4f}**" in to_markdown(table)
    assert f"<b>[{low:.3f}, {high:.3f}]</b> <small>{value:.4f}</small>" in to_html(table)
    assert "With fewer than 30 videos of a class the interval stands first" in caption(table)
    run.datasets["X"]["counts"] |= {"videos_real": 30, "videos_fake": 30}
    many = run_entry(run, "ours", "frame")
    assert f"{value:.4f} [{low:.3f}, {high:.3f}]" in to_markdown(build_table([many], "frame"))
