import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import t

from analysis import ablation
from analysis.ablation import AVERAGE, Plan, folder_name, jobs_of, main, paired_p, read_plan, summarise
from analysis.reproduction import jobs
from common.errors import ConfigError, DataError, ProjectError

PLAN = {
    "detector": "d.yaml",
    "seeds": [0, 1],
    "set": ["nEpochs=1"],
    "variants": {"full": [], "no slerp": ["slerp=false"]},
}

COUNTS = {"frames_real": 40, "frames_fake": 40, "videos_real": 20, "videos_fake": 20}


@pytest.fixture
def plan_file(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    return path


def write_results(run_dir, value):
    (run_dir / "results").mkdir(parents=True, exist_ok=True)
    figure = {"value": value, "low": value, "high": value}
    datasets = {
        name: {level: {"auc": figure | {"value": value + shift}} for level in ("frame", "video")} | {"counts": COUNTS}
        for name, shift in (("A", 0), ("B", 0.1))
    }
    (run_dir / "results" / "results.json").write_text(json.dumps({"datasets": datasets}))


def test_the_shipped_plan_overrides_keys_that_exist():
    from training.config import load_config

    plan = read_plan(Path(ablation.__file__).parent / "ablation.yaml")
    assert {"full", "FFT only", "DWT only", "no Boundary Mining", "no identity head"} <= set(plan.variants)
    detector = Path(ablation.__file__).parents[1] / plan.detector
    configs = {name: load_config(detector, overrides) for name, overrides in plan.variants.items()}
    texts = {name: config.model_dump_json() for name, config in configs.items()}
    assert len(set(texts.values())) == len(texts), "no two variants are the same"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": {"a": []}}, "one named `full`"),
        ({"variants": {"full": ["slerp"]}}, "key=value"),
        ({"seeds": []}, "seeds"),
        ({"typo": 1}, "no others"),
        ({"variants": {"full": [], "No x": [], "no-x": []}}, "share a folder"),
    ],
)
def test_wrong_plans(plan_file, change, message):
    plan_file.write_text(yaml.safe_dump(PLAN | change))
    with pytest.raises(ConfigError, match=message):
        read_plan(plan_file)


def test_files_that_are_no_plan(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_plan(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_plan(tmp_path / "bad.yaml")


def test_a_plan_is_a_run_per_variant_and_seed():
    found = jobs_of(Plan("d.yaml", [3, 4], {"full": [], "no x": ["a=1"]}, ["b=2"]), Path("out"))
    assert [(job.title, job.seed, job.run_dir) for job in found] == [
        (title, seed, Path("out") / folder / f"seed{seed}")
        for title, folder in (("full", "full"), ("no x", "no_x"))
        for seed in (3, 4)
    ]
    assert found[2].overrides == ("b=2", "a=1"), "the variant's own override is the stronger one"


def test_p_value_is_the_paired_t_test_by_hand():
    values, full = [0.80, 0.83, 0.79], [0.85, 0.86, 0.87]
    d = np.subtract(values, full)
    statistic = d.mean() / (d.std(ddof=1) / np.sqrt(3))
    assert paired_p(values, full) == pytest.approx(2 * t.sf(abs(statistic), 2))
    assert paired_p([0.5], [0.6]) is None
    assert paired_p([0.5, 0.6], [0.5, 0.6]) == 1


def test_summary_by_hand():
    figures = {"full": {"A": [0.9, 0.8]}, "less": {"A": [0.7, 0.7]}}
    full, less = summarise(figures, "frame")
    assert (full["mean"], full["difference"], full["p"]) == (pytest.approx(0.85), 0, None)
    assert full["deviation"] == pytest.approx(np.std([0.9, 0.8], ddof=1))
    assert less["difference"] == pytest.approx(-0.15)


def test_only_missing_runs_are_run_and_the_table_is_made(plan_file, tmp_path, monkeypatch, capsys):
    out, started = tmp_path / "out", []
    monkeypatch.setattr(jobs, "is_done", lambda job: job.tested)

    def train(line, log):
        run_dir = Path(line[line.index("--log_dir") + 1])
        started.append(str(run_dir.relative_to(out)))
        write_results(run_dir, 0.8 + 0.01 * int(line[line.index("--seed") + 1]) - 0.05 * ("slerp=false" in line))
        return 0

    monkeypatch.setattr(jobs, "execute", train)
    write_results(out / "full" / "seed0", 0.8)
    main([str(plan_file), "--out", str(out)])
    assert started == ["full/seed1", "no_slerp/seed0", "no_slerp/seed1"]
    main([str(plan_file), "--out", str(out)])
    assert len(started) == 3
    with open(out / "ablation_frame.csv", newline="") as file:
        rows = {(row["variant"], row["dataset"]): row for row in csv.DictReader(file)}
    assert float(rows["no slerp", "A"]["difference"]) == pytest.approx(-0.05)
    assert float(rows["full", AVERAGE]["mean"]) == pytest.approx(0.855)
    assert (out / "ablation_video.pdf").exists()
    table = (out / "ablation_video.md").read_text()
    assert "| no slerp |" in table
    assert "over 2 seeds" in table
    assert "Ablation, frame level" in (out / "full/seed1/report.html").read_text()
    assert "4 of 4 runs are done" in capsys.readouterr().out


def test_a_failed_run_is_named_with_its_last_line(plan_file, tmp_path, monkeypatch):
    def train(line, log):
        log.write("error: no such dataset\n")
        return 2

    monkeypatch.setattr(jobs, "execute", train)
    with pytest.raises(ProjectError, match=r"`full` with seed 0 failed: error: no such dataset"):
        main([str(plan_file), "--out", str(tmp_path / "out")])
    with pytest.raises(ConfigError, match="no variant `x`"):
        main([str(plan_file), "--only", "x"])


def test_only_test_sets_of_all_runs_are_compared(tmp_path, capsys):
    made = jobs_of(Plan("d", [0], {"full": [], "x": []}), tmp_path)
    write_results(tmp_path / "full/seed0", 0.8)
    write_results(tmp_path / "x/seed0", 0.8)
    path = tmp_path / "x/seed0/results/results.json"
    content = json.loads(path.read_text())
    del content["datasets"]["B"]
    path.write_text(json.dumps(content))
    found = ablation.figures_of(ablation.common_figures(made), "frame")
    assert {title: list(rows) for title, rows in found.items()} == {"full": ["A"], "x": ["A"]}
    assert "left out, because not every run was tested on them: B" in capsys.readouterr().out
    del content["datasets"]["A"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no test set is common to all runs of full, x"):
        ablation.common_figures(made)


def test_one_seed_establishes_nothing():
    rows = summarise({"full": {"A": [0.9]}, "less": {"A": [0.7]}}, "frame")
    table = ablation.sheet(rows)
    assert table.rows == [["full", "0.9000"], ["less", "0.7000 (-0.2000)"]]
    assert "no difference here is established" in table.caption


def test_folder_names():
    assert folder_name("no Freq-Adapter") == "no_freq_adapter"
