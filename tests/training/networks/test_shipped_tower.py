"""The demo's CLIP that comes with the project: it loads by name, without a network, and reads faces that it never saw."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from common.errors import WeightsError
from preprocessing.demo.captions import NAMES, render_people
from training.networks import clip_tower
from training.networks.clip_tower import SHIPPED, ClipConfig, ClipTower, build_clip_tower, local_tower
from training.networks.image_text import normalised, r2

FILE = SHIPPED / "demo-clip-faces.safetensors"
NEVER_SEEN = range(1_000_000, 1_000_014)


def tower(**keys) -> ClipTower:
    given = {"backbone_name": "demo-clip", "pretrained": "faces", "resolution": 128, "tuning": "none"}
    return build_clip_tower(ClipConfig(model_name="clip_linear", **{**given, **keys})).eval()


def test_the_file_is_small_and_the_one_that_its_card_describes():
    card = json.loads(FILE.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == card["sha256"]
    assert FILE.stat().st_size <= 4 * 2**20
    assert card["held_out_r2"] > 0.4
    assert len(card["by_attribute"]) == len(NAMES) == 72
    with safe_open(FILE, "pt") as file:
        assert all(file.get_tensor(k).dtype == torch.float16 for k in file.keys() if k.startswith("visual."))  # noqa: SIM118


def test_held_out_faces_are_read():
    """Captions of people beyond those of the training are read from CLS by the linear readout beside the tower."""
    faces, captions = (np.concatenate(parts) for parts in zip(*render_people(0, NEVER_SEEN, 1, 2, 128)))
    with safe_open(FILE, "pt") as file:
        readout = {k: file.get_tensor(f"readout.{k}").float() for k in ("weight", "bias", "mean", "std")}
        assert file.metadata()["captions"].split() == list(NAMES)
    said = (torch.from_numpy(captions) - readout["mean"]) / readout["std"]
    with torch.no_grad():
        trained, random = (t(normalised(faces))[0] for t in (tower(), tower(pretrained=None)))
    read = [features @ readout["weight"].T + readout["bias"] for features in (trained, random)]
    scores = [r2(values, said.clamp(-4, 4)) for values in read]
    assert scores[0].mean() > 0.4
    assert scores[1].mean() < 0.1, "a tower without its weights reads nothing"


def test_a_users_file_of_the_name_goes_first(tmp_path, monkeypatch):
    assert local_tower("demo-clip", "faces") == FILE
    assert local_tower("tiny", "faces") is None, "another backbone has no such weights"
    monkeypatch.setattr(clip_tower, "PRETRAINED_DIR", tmp_path)
    (tmp_path / "demo-clip-faces.safetensors").touch()
    assert local_tower("demo-clip", "faces") == tmp_path / "demo-clip-faces.safetensors"


def test_a_stem_cuts_the_same_patches_in_two_steps():
    stemmed = tower()
    assert [tuple(layer.weight.shape) for layer in stemmed.visual.conv1[::2]] == [(64, 3, 4, 4), (96, 64, 4, 4)]
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[..., 16:32, 48:64] += 1  # the patch in row 1, column 3 of 8
    a, b = (stemmed.visual.conv1(x).flatten(2) for x in (image, changed))
    assert (a != b).any(1)[0].nonzero().flatten().tolist() == [1 * 8 + 3]


def test_a_tower_with_a_stem_is_known_by_its_shapes():
    with pytest.raises(
        WeightsError, match="holds the tower demo-clip, and backbone_name is demo; set backbone_name to demo-clip"
    ):
        tower(backbone_name="demo", pretrained=str(FILE))


def test_every_shipped_file_has_a_card():
    for path in SHIPPED.glob("*.safetensors"):
        assert path.with_suffix(".json").exists(), path
    assert (Path(SHIPPED) / "README.md").exists()
