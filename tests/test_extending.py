"""docs/extending.md: each of its examples is written where it says, and works."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pack import write_pack

from common.errors import ConfigError
from training.detectors import available_detectors
from training.detectors.__main__ import describe

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
# First line of a block → the rest.
EXAMPLES = dict(re.findall(r"^```\w+\n# ([^\n]+)\n(.*?)^```$", PAGE, re.M | re.S))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the rooms that the examples extend, with all of them in it."""
    root = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "*.pth", "*.pt", "*.safetensors", "*.bin", "*.dat")
    for room in ("training", "preprocessing"):
        shutil.copytree(ROOT / room, root / room, ignore=ignored)
    for place, text in EXAMPLES.items():
        path, _, end = place.partition(", at its end")
        if end or "," in place:
            text = (root / path).read_text(encoding="utf-8") + text
        (root / path).write_text(text, encoding="utf-8")
    return root


def run(root, *arguments):
    # The other rooms come from this checkout, whatever else is installed.
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=root, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_page_has_an_example_of_each():
    rooms = ["detectors", "config/detector", "dataset/recipes", "layouts", "loss", "config/backbone", "dataset"]
    assert [str(Path(place.split(",")[0]).parent).partition("/")[2] for place in EXAMPLES] == rooms


def test_one_file_and_one_yaml_train_and_test(copy, tmp_path):
    """The detector, and the recipe: everything knows them."""
    keys = write_pack(tmp_path, size=32) | {"dataset_type": "mirrored", "recipe.upside_down": 0.5}
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


def test_the_table_knows_the_detector(copy):
    row = run(copy, "-m", "training.detectors", "brightness").splitlines()[-1]
    assert row.split() == ["brightness", "naive", "None", "yet", "2026", "8", "3", "×", "32", "×", "32", "–"]


def test_this_package_does_not():
    assert "brightness" not in available_detectors()
    with pytest.raises(ConfigError, match="brightness"):
        describe("brightness")


USES = """
from pathlib import Path
import json, sys
import numpy as np
from preprocessing.layouts import find_layout
from training.config import load_config
from training.dataset.perturbations import KINDS, perturb
from training.detectors import build_detector

root = Path(sys.argv[1])
layout = find_layout("Puppets")
describe = layout.describer(root, "Puppets")
facts = {v.name: describe(g, v.name) for g in layout.groups(root, "Puppets") for v in layout.sources(root, g)}
small = ["backbone_name=small", "pretrained=null", "resolution=32"]
tower = build_detector(load_config("training/config/detector/clip_linear.yaml", small))
frame = np.full((1, 8, 8, 3), 100, np.uint8)
print(json.dumps({
    "puppets": {name: [f.label, f.splits, f.target_id, f.source_id] for name, f in facts.items()},
    "tower": sum(p.numel() for p in tower.parameters()), "kinds": KINDS, "tint": perturb(frame, "tint", 2)[0, 0, 0].tolist(),
}))
"""


def test_layout_trunk_and_perturbation_are_found(copy, tmp_path):
    for path in ("people/1_a.mp4", "people/4_a.mp4", "puppets/4_a_swap.mp4"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    found = json.loads(run(copy, "-c", USES, tmp_path))
    assert found["puppets"] == {
        "1_a": ["Puppets_real", ["train"], "1", "1"],
        "4_a": ["Puppets_real", ["test"], "4", "4"],
        "4_a_swap": ["Puppets_fake", ["test"], "4", None],
    }
    assert 20_000 < found["tower"] < 40_000
    assert found["tint"] == [112, 100, 88]


def test_the_loss_is_its_equation():
    room: dict = {}
    exec(EXAMPLES["training/loss/focal.py"], room)
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(6, 2)), rng.integers(0, 2, 6)
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[np.arange(6), label]
    value = room["focal"](torch.from_numpy(logits), torch.from_numpy(label), 1.5)
    assert value.item() == pytest.approx((-((1 - p) ** 1.5) * np.log(p)).mean(), rel=1e-5)
