"""Every tool once on a small trained detector, by its command line; and how fast `--help` answers."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.pack import write_pack

from analysis import calibration, efficiency, gradcam, robustness, spectra, tsne
from common.errors import WeightsError

ROOT = Path(__file__).parents[2]
TOOLS = sorted(path for path in (ROOT / "analysis").glob("*.py") if "def main(" in path.read_text())
DETECTOR = {
    "model_name": "clip_crossdomain",
    "backbone_name": "tiny",
    "pretrained": None,
    "tuning": "full",
    "freq_adapter": {"branches": ["fft", "dwt"], "channels": 8, "inject": [0]},
    "boundary": {"channels": 8},
    "identity": {"hidden": 16},
    "train_dataset": ["FaceForensics++"],
    "test_dataset": ["FaceForensics++"],
    "train_batchSize": 8,
    "test_batchSize": 8,
    "frame_num": {"train": 4, "test": 2},
    "resolution": 32,
    "workers": 0,
    "nEpochs": 1,
    "label_dict": {"FF-real": 0, "FF-DF": 1, "FF-NT": 1},
    "data_note": "A made pack.",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory of a tiny detector that train.py has trained and tested."""
    root = tmp_path_factory.mktemp("tools")
    (root / "tiny.yaml").write_text(yaml.safe_dump(DETECTOR | write_pack(root)))
    line = [
        sys.executable,
        ROOT / "training/train.py",
        "--detector_path",
        root / "tiny.yaml",
        "--log_dir",
        root / "run",
        "--device",
        "cpu",
    ]
    done = subprocess.run([str(part) for part in line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return root / "run"


def test_untouched_frames_give_the_auc_of_testing(trained):
    robustness.main([str(trained), "--kinds", "jpeg", "h264", "--severities", "5", "--device", "cpu"])
    with open(trained / "analysis/robustness/robustness.csv", newline="") as file:
        lines = {(row["level"], row["kind"]): row for row in csv.DictReader(file)}
    rows = {key: float(row["auc"]) for key, row in lines.items()}
    tested = json.loads((trained / "results/results.json").read_text())["datasets"]["FaceForensics++"]
    for level in ("frame", "video"):
        assert rows[level, "clean"] == pytest.approx(tested[level]["auc"]["value"])
        for end in ("low", "high"):
            assert float(lines[level, "clean"][end]) == pytest.approx(tested[level]["auc"][end])
        assert (level, "h264") in rows


def test_temperature_comes_from_the_validation_split(trained):
    calibration.main([str(trained), "--device", "cpu"])
    (path,) = (trained / "analysis/calibration").glob("val_predictions-*.csv")
    kept = path.read_text().splitlines()[1:]
    assert {line.split(",")[0].rsplit("/", 1)[1] for line in kept} == {"720", "720_672"}
    point = json.loads((trained / "checkpoints/operating_point.json").read_text())
    assert point["target_tpr"] == 0.95
    assert (trained / "checkpoints" / point["checkpoint"]).exists()
    assert point["fingerprint"].startswith(path.stem.partition("-")[2])


def test_heat_maps_of_every_kind(trained, capsys):
    gradcam.main([str(trained), "--faces", "3", "--measure", "3", "--device", "cpu"])
    with open(trained / "analysis/gradcam/faithfulness.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["map"] for row in rows} == {"Grad-CAM", "attention roll-out", "boundary", "fft_energy", "dwt_energy"}
    assert all(float(row["chance"]) == pytest.approx(1 / 16) for row in rows), "the pack's masks cover a sixteenth"
    assert "inside mask" in capsys.readouterr().out


def test_features_and_spectra(trained):
    tsne.main([str(trained), "--methods", "pca"])
    spectra.main([str(trained), "--frames", "2"])
    with open(trained / "analysis/spectra/spectra.csv", newline="") as file:
        assert {(row["class"], row["videos"]) for row in csv.DictReader(file)} == {("real", "2"), ("fake", "3")}


def test_costs(trained, tmp_path):
    efficiency.main([str(trained), "--out", str(tmp_path), "--batch", "2", "--repeats", "2", "--device", "cpu"])
    with open(tmp_path / "efficiency.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    import torch

    state = torch.load(trained / "checkpoints/last.pth", weights_only=True)["model"]
    assert float(row["checkpoint_mb"]) == pytest.approx(
        sum(v.numel() * v.element_size() for v in state.values()) / 1e6, rel=0.05
    )
    assert 0 < int(row["trainable"]) <= int(row["parameters"])
    assert float(row["training_per_s"]) > 0


def test_report_shows_what_a_tool_found(trained):
    spectra.main([str(trained), "--frames", "1"])
    text = (trained / "report.html").read_text()
    assert ">Frequency spectra</h2>" in text
    assert '<div class="note" role="note">About the training data: A made pack.</div>' in text


def test_a_run_without_a_checkpoint_is_answered(trained, tmp_path):
    (tmp_path / "config.yaml").write_text((trained / "config.yaml").read_text())
    with pytest.raises(WeightsError, match="keeps no checkpoint"):
        gradcam.main([str(tmp_path)])


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.stem)
def test_help_answers_at_once(tool):
    # Processor time, not wall-clock: a busy machine must not fail the test.
    script = (
        "import resource, runpy, sys\n"
        "sys.argv = [sys.argv[1], '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'cv2', 'matplotlib', 'sklearn', 'scipy', 'av', 'jinja2'} & set(sys.modules)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print('heavy:', sorted(heavy), 'seconds:', used.ru_utime + used.ru_stime)\n"
    )
    seconds = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script, str(tool)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "usage:" in done.stdout
        assert "heavy: []" in done.stdout
        seconds.append(float(done.stdout.split()[-1]))
    assert min(seconds) < 0.5
