"""A newcomer adds a detector: one file and one YAML, nothing else, and everything knows it. Also the table of detectors."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.pack import write_pack

import training
from common.errors import ConfigError
from training.detectors import available_detectors
from training.detectors.__main__ import describe, main

ROOT = Path(__file__).parents[3]

DETECTOR = '''"""Brightness: a detector of bright squares, as a first detector might look."""

from pydantic import Field
from torch import nn

from training.config.schema import Config, Positive
from training.detectors.base import ClassificationDetector, DetectorCard
from training.detectors.registry import register_detector


class BrightnessConfig(Config):
    """The detector's own key."""

    gain: Positive = Field(1.0, description="factor on the features")


@register_detector(BrightnessConfig)
class BrightnessDetector(ClassificationDetector):
    """Brightest place of each channel → class."""

    card = DetectorCard(title="Brightness", kind="naive", paper="None yet", year=2026, url="")

    def __init__(self, config, data_info=None, pretrained=True):
        super().__init__(config, data_info, pretrained)
        self.head = nn.Linear(3, 2)

    def features(self, image):
        return self.config.gain * image.amax((2, 3))

    def classifier(self, feat):
        return self.head(feat)
'''
YAML = """model_name: brightness
gain: 2.0
train_dataset: [FaceForensics++]
test_dataset: [FaceForensics++]
train_batchSize: 8
workers: 0
resolution: 32
use_data_augmentation: false
rec_iter: 1
nEpochs: 100
optimizer: {type: adam, adam: {lr: 0.05}}
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package with one detector and its settings more."""
    root = tmp_path_factory.mktemp("copy")
    package = root / "training"
    ignored = shutil.ignore_patterns("__pycache__", "*.pth", "*.pt", "*.safetensors", "*.bin")
    shutil.copytree(Path(training.__file__).parent, package, ignore=ignored)
    (package / "detectors" / "brightness_detector.py").write_text(DETECTOR)
    (package / "config" / "detector" / "brightness.yaml").write_text(YAML)
    return root


def run(root, *arguments):
    # The other rooms come from this checkout, whatever else is installed.
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=root, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_one_file_and_one_yaml_train_and_test(copy, tmp_path):
    keys = write_pack(tmp_path, size=32)
    settings = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    settings_file = "training/config/detector/brightness.yaml"
    run(
        copy, "training/train.py", "--detector_path", settings_file, "--device", "cpu", "--max_steps", "30",
        "--log_dir", tmp_path / "run", *settings,
    )  # fmt: skip
    results = json.loads((tmp_path / "run" / "results" / "results.json").read_text())
    assert results["detector"] == "brightness"
    assert results["datasets"]["FaceForensics++"]["frame"]["auc"]["value"] == 1.0
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    overall = [row["loss/overall"] for row in losses if "loss/overall" in row]
    assert len(overall) == 30
    assert sum(overall[-6:]) < 0.6 * sum(overall[:6])
    run(
        copy, "training/test.py", "--detector_path", settings_file, "--device", "cpu", "--log_dir", tmp_path / "again",
        "--weights_path", tmp_path / "run" / "checkpoints" / "best.pth", *settings,
    )  # fmt: skip
    again = json.loads((tmp_path / "again" / "results" / "results.json").read_text())
    assert again["datasets"] == results["datasets"]


def test_the_table_knows_it(copy):
    row = run(copy, "-m", "training.detectors", "brightness").splitlines()[-1]
    assert row.split() == ["brightness", "naive", "None", "yet", "2026", "8", "3", "×", "32", "×", "32", "–"]


def test_this_package_does_not():
    assert "brightness" not in available_detectors()
    with pytest.raises(ConfigError, match="brightness"):
        describe("brightness")


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
