"""One command from nothing to the tables, on the tiny scale; and what it says when something is not there."""

import csv
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.pack import VIDEOS, write_pack

from analysis import reproduce
from analysis.reproduction import requirements
from analysis.reproduction.scale import SCALES, read_scale
from common.datasets import other_names
from common.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
TABLES = ("cross_domain", "comparison", "robustness", "ablation")


def overrides(keys):
    return [part for key in ("rgb_dir", "dataset_json_folder") for part in ("--set", f"{key}={keys[key]}")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The two datasets of the tiny scale as a pack; returns the flags that read them."""
    root = tmp_path_factory.mktemp("reproduce_data")
    write_pack(root, frames=2, name="DemoForensics")
    return overrides(write_pack(root, frames=2, name="DemoCeleb"))


@pytest.fixture(scope="module")
def reproduced(data, tmp_path_factory):
    """All tables of the tiny scale by the command line; returns their folder and what was printed."""
    out = tmp_path_factory.mktemp("reproduced")
    line = [sys.executable, str(ROOT / "analysis/reproduce.py"), "all", "--scale", "tiny", "--out", str(out), *data]
    done = subprocess.run([*line, "--device", "cpu"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_table_is_written_in_every_form(reproduced):
    out, said = reproduced
    written = {path.relative_to(out).as_posix() for table in TABLES for path in (out / table).iterdir()}
    for stem in ("cross_domain/cross_domain", "comparison/leaderboard", "robustness/robustness", "ablation/ablation"):
        for level in ("frame", "video"):
            assert {f"{stem}_{level}.{suffix}" for suffix in ("md", "tex", "html")} <= written
    assert {"comparison/comparison.csv", "robustness/robustness.csv", "ablation/ablation_frame.csv"} <= written
    assert {"robustness/robustness_frame.pdf", "ablation/ablation_video.png"} <= written
    for path in written:
        assert (out / path).stat().st_size > 50
        assert path in said


def test_tables_hold_the_detectors_and_test_sets_of_the_scale(reproduced):
    out, _ = reproduced
    scale = read_scale("tiny")
    assert [row["detector"] for row in rows_of(out / "comparison/leaderboard_video.csv")] == scale.comparison
    assert {row["dataset"] for row in rows_of(out / "comparison/comparison.csv")} == set(scale.test_dataset)
    ablation = rows_of(out / "ablation/ablation_frame.csv")
    assert {row["variant"] for row in ablation} == {"full", "no Freq-Adapter"}
    (main,) = rows_of(out / "cross_domain/cross_domain_frame.csv")
    full = {row["dataset"]: row["mean"] for row in ablation if row["variant"] == "full"}
    for dataset in scale.test_dataset:
        assert float(main[dataset]) == pytest.approx(float(full[dataset])), "the same run stands in both tables"
    clean = [r for r in rows_of(out / "robustness/robustness.csv") if (r["kind"], r["level"]) == ("clean", "frame")]
    assert [float(row["auc"]) for row in clean] == [pytest.approx(float(main["DemoCeleb"]))]


def test_reports_show_the_tables_that_their_run_stands_in(reproduced):
    out, _ = reproduced
    page = (out / "runs/ours/seed0/report.html").read_text()
    for title in ("Leaderboard, frame level", "Comparison of runs", "Robustness", "Ablation, video level"):
        assert f">{title}</h2>" in page


def test_a_second_call_runs_nothing_and_makes_the_same_table(reproduced, data, capsys, monkeypatch):
    out, _ = reproduced
    from analysis.reproduction import jobs

    monkeypatch.setattr(jobs, "execute", lambda *a, **k: pytest.fail("a run was started"))
    monkeypatch.chdir(ROOT)
    table = out / "cross_domain/cross_domain_video.tex"
    before = table.read_text()
    table.unlink()
    assert reproduce.main(["cross_domain", "--scale", "tiny", "--out", str(out), *data]) == 0
    assert table.read_text() == before
    assert "1 of 1 runs are done" in capsys.readouterr().out


def test_runs_of_other_settings_are_not_taken(reproduced, data, monkeypatch):
    monkeypatch.chdir(ROOT)
    line = ["cross_domain", "--scale", "tiny", "--out", str(reproduced[0]), *data]
    with pytest.raises(ConfigError, match=r"was run with max_steps=2, and max_steps=3 is asked for now"):
        reproduce.main([*line, "--set", "max_steps=3"])


def test_all_that_is_missing_is_said_at_once(tmp_path):
    """An index without fakes, a frame that is not there, an unknown index, and weights: one call names all four."""
    keys = write_pack(tmp_path, frames=2, name="DemoForensics")
    onlyreal = {"FF-real": VIDEOS["FF-real"]}
    write_pack(tmp_path, frames=2, name="DemoCeleb", videos=onlyreal)
    lost = next((tmp_path / "rgb/DemoForensics/original_sequences/youtube/c23/frames/071").iterdir())
    for path in lost.parent.iterdir():
        path.unlink()
    scale = yaml.safe_load((SCALES / "tiny.yaml").read_text())
    scale["test_dataset"] += ["DemoWild"]
    scale["detectors"]["CLIP linear"]["set"] = ["pretrained=openai", "backbone_name=ViT-B-32", "resolution=224"]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(scale))
    line = [sys.executable, str(ROOT / "analysis/reproduce.py"), "all", "--scale", str(tmp_path / "own.yaml")]
    done = subprocess.run(
        [*line, "--out", str(tmp_path / "out"), *overrides(keys)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2, done.stderr
    said = [text for text in done.stderr.splitlines() if text.startswith("missing: ")]
    for part in ("071", "holds no fake video", "DemoWild.json", "training/pretrained/ViT-B-32.safetensors"):
        assert sum(part in text for text in said) == 1, (part, done.stderr)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "error: 4 things are missing, named above; `make demo-data` prepares the data of this scale"
    assert not (tmp_path / "out").exists(), "nothing was begun"


def test_check_says_what_is_there_and_runs_nothing(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    line = ["all", "--scale", "tiny", "--out", str(tmp_path / "out"), *data, "--check"]
    assert reproduce.main(line) == 0
    assert "data and weights of 4 runs are there" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="missing"):
        reproduce.main([*line, "--test_dataset", "Unknown"])


FOUR = {"FF-real": {"train": ["071"], "test": ["953"]}, "FF-DF": {"train": ["071_054"], "test": ["953_974"]}}


def whole(real, fake, splits=("train", "val", "test")):
    """Return videos of so many of each class, by label and split."""
    kinds = (("FF-real", real, ""), ("FF-DF", fake, "_x"))
    return {label: {s: [f"{s}{n}{end}" for n in range(count)] for s in splits} for label, count, end in kinds}


def lacks(tmp_path, name="FaceForensics++", fewest=None, videos=FOUR):
    """Return what a run on an index of these videos lacks."""
    keys = write_pack(tmp_path, frames=1, name=name, videos=videos)
    tiny = read_scale("tiny")
    settings = [*tiny.set, *(part for part in overrides(keys) if part != "--set")]
    scale = tiny.model_copy(update={"train_dataset": [name], "test_dataset": [name], "set": settings})
    return requirements.missing(scale.jobs(["ours"], tmp_path / "out"), fewest=fewest)


def test_check_counts_the_videos_of_an_index(tmp_path):
    train, val, test = lacks(tmp_path / "known")
    assert "the train split of FaceForensics++ holds 1 real and 1 fake videos, and 720 and 2880 are published" in train
    assert "the val split of FaceForensics++ is empty" in val
    assert "since it chooses the checkpoint" in val
    assert "140 and 560 are published" in test
    train, val, test = lacks(tmp_path / "unknown", "Mine")
    assert "holds 1 real and 1 fake videos, and a reproduction needs at least 5 of each" in train
    (val,) = lacks(tmp_path / "allowed", fewest=1)
    assert "the val split of FaceForensics++ is empty" in val
    assert lacks(tmp_path / "enough", "Mine", videos=whole(5, 6)) == []
    assert len(lacks(tmp_path / "few fakes", "Mine", videos=whole(6, 4))) == 3


def test_published_counts_are_of_a_dataset_under_any_of_its_names(tmp_path, monkeypatch):
    counts = requirements.published_counts
    assert counts("FaceForensics++_c23", "val") == counts("FaceForensics++", "val") == (140, 560)
    assert counts("Celeb-DF-v2", "test") == (178, 340)
    assert counts("Celeb-DF-v2", "train") is None
    assert counts("Mine", "test") is None
    (tmp_path / "splits.csv").write_text("dataset,split,real,fake,source\nFFIW-10K,test,7,8,a list\n")
    monkeypatch.setattr(requirements, "SPLITS", tmp_path / "splits.csv")
    assert counts("FFIW", "test") == counts("FFIW-10K", "test") == (7, 8)


def test_the_published_scale_finds_what_the_documented_commands_write():
    """`preprocessing/README.md` says which name each dataset is prepared under; each has to be an index of the scale."""
    said = (ROOT / "preprocessing/README.md").read_text()
    written = set(re.findall(r"rearrange\.py --dataset_name (\S+)", said))
    written.add("Celeb-DF-v1")  # as Celeb-DF-v2, of which the command is shown
    for name in read_scale("full").test_dataset:
        assert written & {name, *other_names(name)}, name


@pytest.mark.parametrize("name", ["full", "demo", "tiny"])
def test_shipped_scales_ask_for_configurations_that_exist(name, tmp_path):
    scale = read_scale(name)
    jobs = {job.run_dir: job for table in TABLES for job in reproduce.TABLES[table][0](scale, tmp_path)}
    texts = {job.config().model_dump_json() for job in jobs.values()}
    assert len(texts) == len(jobs), "no run is done twice"
    assert {job.seed for job in jobs.values()} == set(scale.seeds)
    for job in jobs.values():
        assert job.config().train_dataset == scale.train_dataset
        assert job.config().test_dataset == scale.test_dataset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cross_domain": ["theirs"]}, "`theirs` is none of the detectors"),
        ({"seeds": []}, "seeds"),
        ({"typo": 1}, "typo"),
        ({"robustness": {"detectors": ["ours"], "kinds": ["fog"]}}, "no perturbation `fog`"),
        ({"robustness": {"detectors": ["ours"], "datasets": ["DFDC"]}}, "`DFDC` is not among test_dataset"),
        ({"detectors": {"ours": {}}}, "detector_path"),
    ],
)
def test_wrong_scales_are_refused(tmp_path, change, message):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((SCALES / "tiny.yaml").read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        read_scale(str(path))
    with pytest.raises(ConfigError, match="choose one of demo, full, tiny"):
        read_scale("huge")


@pytest.mark.parametrize("flags", [[], ["--common"]])
def test_common_reaches_the_tables_that_ask_for_it(flags, tmp_path, monkeypatch):
    """The sentence that refuses to compare names --common; here it has to be a flag too."""
    from analysis import leaderboard

    asked = []
    for name in ("write_leaderboard", "write_comparison"):
        signature = inspect.signature(getattr(leaderboard, name))

        def note(*args, signature=signature, **named):
            bound = signature.bind(*args, **named)
            bound.apply_defaults()
            asked.append(bound.arguments["common"])
            return []

        monkeypatch.setattr(leaderboard, name, note)
    monkeypatch.setattr(reproduce, "_grouped", lambda jobs: {"a": [None]})
    arguments = reproduce._parser().parse_args(["all", "--scale", "tiny", *flags])
    for table in ("cross_domain", "comparison"):
        reproduce.TABLES[table][1](read_scale("tiny"), tmp_path, arguments)
    assert asked == [bool(flags)] * 3


def test_the_shell_launcher_hands_on_the_command():
    line = ["bash", str(ROOT / "train.sh"), "reproduce", "cross_domain", "--scale", "huge"]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ | {"PYTHON": sys.executable})
    assert done.returncode == 2
    assert "no such scale" in done.stderr
