"""The command that fits FFD's appearance model to the masks of a training set."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.pack import write_pack

ROOT = Path(__file__).parents[2]


def run(places, *flags):
    settings = [part for key, value in places.items() for part in ("--set", f"{key}={value}")]
    return subprocess.run(
        [sys.executable, "training/generate_map_basis.py", *flags, *settings],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("basis"), frames=2, size=64)


def test_mean_and_components_of_the_stored_masks(places, tmp_path):
    flags = ("--train_dataset", "FaceForensics++", "--output", str(tmp_path / "basis.npz"))
    done = run(places, *flags, "--set", "resolution=64", "--set", "map_components=3")
    assert done.returncode == 0, done.stderr
    # Two frames of three DF videos and of one NT video; every mask is the same square, a quarter to a half of the side.
    assert "8 masks of 4x4, 3 components" in done.stdout
    with np.load(tmp_path / "basis.npz", allow_pickle=False) as content:
        wanted = np.zeros((4, 4))
        wanted[1, 1] = 1
        np.testing.assert_allclose(content["mean"], wanted, atol=1e-6)
        assert content["basis"].shape == (3, 4, 4)


def test_mistakes_are_one_sentence(places, tmp_path):
    done = run(places, "--output", str(tmp_path / "basis.npz"), "--set", "train_dataset=[]")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: train_dataset is empty")
