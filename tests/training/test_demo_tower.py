"""The training of the demo's CLIP: losses fall, an interrupted call goes on exactly, what is written loads."""

import json

import numpy as np
import pytest
import torch
from helpers.training_runs import call
from safetensors.torch import load_file

from training import demo_tower
from training.networks.clip_tower import ClipConfig, build_clip_tower
from training.networks.image_text import ImageText, read_pairs, ridge


@pytest.fixture
def faces(tmp_path):
    """Forty people of one colour each, on a slope from left to right; captions say both."""
    rng = np.random.default_rng(0)
    said = rng.uniform(-1, 1, (80, 2)).astype(np.float32)
    slope = np.linspace(-1, 1, 32)[None, None, :, None] * said[:, 1, None, None, None]
    pictures = 128 + 50 * said[:, 0, None, None, None] + 50 * slope + np.zeros((80, 32, 32, 3))
    path = tmp_path / "captioned.npz"
    np.savez(path, faces=pictures.astype(np.uint8), captions=said * [2, 3] + [5, 0.5], person=np.repeat(np.arange(40), 2),
             names=np.array(["brightness", "slope"]), mirrored=np.array(["slope"]))  # fmt: skip
    return path


def words(faces, output, *more):
    small = ["--backbone", "tiny", "--batch", "16", "--held_out", "8", "--steps", "24", "--every", "6"]
    return ["--faces", str(faces), "--output", str(output), *small, *more]


def test_it_learns_and_writes_a_tower_that_loads(faces, tmp_path):
    out = tmp_path / "tower.safetensors"
    assert call(words(faces, out), demo_tower.main) == 0
    card = json.loads((tmp_path / "tower.json").read_text())
    log = card["log"]
    assert log[1]["contrastive"] < log[0]["contrastive"]  # later captions are shorter
    assert log[-1]["caption"] < log[0]["caption"]
    assert card["held_out_r2"] > 0.5
    assert not (tmp_path / "tower.safetensors.state.pth").exists()
    keys = ClipConfig(model_name="clip_linear", backbone_name="tiny", pretrained=str(out), resolution=32, tuning="none")
    wanted = load_file(out)["visual.class_embedding"].float()
    assert torch.equal(build_clip_tower(keys).visual.class_embedding, wanted)


def test_an_interrupted_training_goes_on_exactly(faces, tmp_path, monkeypatch):
    assert call(words(faces, tmp_path / "whole"), demo_tower.main) == 0
    taken, step = [], demo_tower._step

    def stops(*given):
        if len(taken) == 9:
            raise KeyboardInterrupt
        taken.append(1)
        return step(*given)

    monkeypatch.setattr(demo_tower, "_step", stops)
    assert call(words(faces, tmp_path / "parts"), demo_tower.main) == 130
    monkeypatch.setattr(demo_tower, "_step", step)
    assert call(words(faces, tmp_path / "parts"), demo_tower.main) == 0
    whole, parts = (load_file(tmp_path / name) for name in ("whole", "parts"))
    for key in whole:
        torch.testing.assert_close(parts[key], whole[key], rtol=1e-3, atol=1e-3)


def test_a_flip_turns_picture_and_caption_alike(faces):
    learn, _ = read_pairs(faces, 8)
    rows = np.arange(6)
    image, caption = learn.batch(rows)
    flipped, said = learn.batch(rows, np.array([True, False] * 3))
    assert torch.equal(flipped[::2], image[::2].flip(3))
    assert torch.equal(flipped[1::2], image[1::2])
    raw = [values * learn.std + learn.mean for values in (caption, said)]
    torch.testing.assert_close(raw[1][::2, 1], -raw[0][::2, 1])
    torch.testing.assert_close(raw[1][:, 0], raw[0][:, 0])


def test_text_sees_only_what_is_said(faces):
    learn, _ = read_pairs(faces, 8)
    torch.manual_seed(0)
    model = ImageText("tiny", 32, 2)
    image, caption = learn.batch(np.arange(8))
    said = torch.tensor([[1.0, 0.0]]).expand(8, 2)
    other = caption.clone()
    other[:, 1] += 1
    assert model.losses(image, caption, said)[0] == model.losses(image, other, said)[0]
    assert model.losses(image, caption, said)[1] != model.losses(image, other, said)[1]


def test_ridge_finds_a_line():
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * 3 + 2
    true = torch.tensor([[1.0, -2.0, 0.5, 0.0, 3.0]])
    weight, bias = ridge(x, x @ true.T + 7, strength=1e-9)
    torch.testing.assert_close(weight, true, atol=1e-4, rtol=0)
    torch.testing.assert_close(bias, torch.tensor([7.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("make", "more", "said"), [
    (lambda path: None, [], "holds no captioned faces"),
    (lambda path: path.write_text("text"), [], "holds no captioned faces"),
    (lambda path: np.savez(path, x=np.zeros(2)), [], "preprocessing/demo_faces.py"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path, capsys, make, more, said):
    path = tmp_path / "given.npz"
    make(path)
    assert call(words(path, tmp_path / "out", *more), demo_tower.main) == 2
    assert said in capsys.readouterr().err


def test_too_few_people_are_said(faces, tmp_path, capsys):
    assert call(words(faces, tmp_path / "out", "--held_out", "40"), demo_tower.main) == 2
    assert "holds 40 people, 40 are to be held out" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--lr=nan", "--lr=0", "--caption=-1", "--caption=inf"])
def test_rates_and_weights_that_are_none_are_refused(faces, tmp_path, capsys, flag):
    assert call(words(faces, tmp_path / "out", flag), demo_tower.main) == 2
    assert "--lr" in capsys.readouterr().err
