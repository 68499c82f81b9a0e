"""Face X-ray's blends: who is blended into whom, and what the masks promise."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.faces import give_faces, landmarks, picture
from helpers.pack import write_pack

from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset import build_loader
from training.dataset.index.selection import load_index
from training.dataset.recipes.facexray_recipe import FaceXray

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("xray")
    found = write_pack(root, frames=4, size=64)
    give_faces(root / "rgb")
    return found


def configured(places, **more):
    keys = {
        "model_name": "facexray", "train_dataset": ["FaceForensics++"], "label_dict": LABELS, "dataset_type": "facexray",
        "resolution": 64, "train_batchSize": 8, "workers": 0, "use_data_augmentation": False,
    }  # fmt: skip
    return Config(**{**keys, **places, **more})


def first_batch(config):
    return next(iter(build_loader(config, "train")))


def test_real_then_blended_faces_of_the_training_split(places):
    batch = first_batch(configured(places))
    assert batch["roles"] == 2
    assert batch["label"].tolist() == [0] * 4 + [1] * 4
    assert batch["video"][:4] == batch["video"][4:]
    assert all("/FF-real/" in video for video in batch["video"])
    assert batch["image"].shape == (8, 3, 64, 64)
    assert batch["image"].dtype == torch.uint8
    assert batch["mask"].shape == batch["xray"].shape == (8, 1, 64, 64)
    assert not batch["mask"][:4].any()
    assert not batch["xray"][:4].any()


def test_pixels_outside_the_mask_are_untouched_and_many_inside_are_not(places):
    batch = first_batch(configured(places))
    real, fake = batch["image"][:4].numpy(), batch["image"][4:].numpy()
    mask = batch["mask"][4:].bool().expand(-1, 3, -1, -1).numpy()
    np.testing.assert_array_equal(fake[~mask], real[~mask])
    assert (fake[mask] != real[mask]).mean() > 0.3
    assert 0.1 < mask.mean() < 0.8


def test_the_xray_is_bright_on_the_boundary_and_dark_elsewhere(places):
    batch = first_batch(configured(places))
    xray, mask = batch["xray"][4:], batch["mask"][4:].bool()
    assert xray.dtype == torch.float32
    assert not xray[~mask].any()
    assert xray.max() <= 1
    assert (xray.amax((1, 2, 3)) > 0.9).all()
    assert (xray.flatten(1).mean(1) < 0.5).all()


def test_the_xray_is_that_of_the_mask_that_was_blended_with(places):
    config = configured(places)
    recipe = FaceXray(config, load_index(config, config.train_dataset, "train"))
    rng = np.random.default_rng(11)
    faces = []
    for _ in range(2):
        points = landmarks(rng, 64)
        faces.append({"image": picture(rng, points), "landmark": points})
    mixed, alpha = recipe.mix(*faces, np.random.default_rng(4))
    assert alpha.min() == 0
    assert alpha.max() == pytest.approx(1, abs=0.2)
    np.testing.assert_array_equal(mixed[alpha == 0], faces[0]["image"][alpha == 0])
    again, same = recipe.mix(*faces, np.random.default_rng(4))
    np.testing.assert_array_equal(again, mixed)
    np.testing.assert_array_equal(same, alpha)
    assert (recipe.mix(*faces, np.random.default_rng(5))[1] != alpha).any()


def test_partners_are_other_people_and_near(places, monkeypatch):
    config = configured(places, recipe={"neighbours": 3})
    loader = build_loader(config, "train")
    recipe, index = loader.recipe, loader.index
    seen = []
    raw = loader.reader.raw
    monkeypatch.setattr(loader.reader, "raw", lambda v, p, *a, **k: seen.append((v, p)) or raw(v, p, *a, **k))
    for draw in recipe.draws(1, 0):
        recipe.load(draw, loader.reader, np.random.default_rng(int(draw[2])))
    pairs = list(zip(seen[::2], seen[1::2], strict=True))
    assert len(pairs) == 12
    faces = [tuple(row) for row in recipe.faces.tolist()]
    for own, other in pairs:
        assert index.target[own[0]] != index.target[other[0]]
        assert faces.index(other) in recipe.neighbours().rows[faces.index(own)][:3]


def test_neighbours_are_kept_and_read_again(places, monkeypatch):
    config = configured(places)
    index = load_index(config, config.train_dataset, "train")
    first = FaceXray(config, index)
    rows = first.neighbours().rows
    assert first.cache.suffix == ".npz"
    assert first.cache.is_file()
    monkeypatch.setattr(
        "training.dataset.recipes.nearest.neighbours_of", lambda *a: pytest.fail("was to be read from the file")
    )
    np.testing.assert_array_equal(FaceXray(config, index).neighbours().rows, rows)


def test_a_named_file_must_fit_the_frames(places, tmp_path):
    made = subprocess.run(
        [sys.executable, "training/dataset/generate_xray_nearest.py", "--train_dataset", "FaceForensics++",
         "--output", str(tmp_path / "near.npz"), "--num_neighbors", "5",
         *(part for key, value in places.items() for part in ("--set", f"{key}={value}"))],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "12 faces, 5 neighbours" in made.stdout
    named = {"nearest": str(tmp_path / "near.npz"), "neighbours": 5}
    assert len(first_batch(configured(places, recipe=named))["label"]) == 8
    with pytest.raises(DataError, match=r"near\.npz was made for other frames"):
        first_batch(configured(places, recipe=named, frame_num={"train": 2}))


def test_mistakes_are_said(places, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        first_batch(configured(places, recipe={"nearest": str(tmp_path / "none.npz")}))
    with pytest.raises(ConfigError, match=r"recipe\.neighbors"):
        first_batch(configured(places, recipe={"neighbors": 5}))
    lonely = {"FF-real": {"train": ["071"]}, "FF-DF": {"train": ["071_054"]}}
    alone = write_pack(tmp_path, frames=2, size=32, videos=lonely)
    with pytest.raises(DataError, match="one person"):
        first_batch(configured(alone))


def test_augmented_masks_move_with_their_images(places):
    still = {"rotate_prob": 0, "blur_prob": 0, "brightness_prob": 0, "compress_prob": 0, "rescale_prob": 0}
    config = configured(places, use_data_augmentation=True, data_aug={**still, "flip_prob": 1})
    flipped, plain = first_batch(config), first_batch(configured(places))
    torch.testing.assert_close(flipped["xray"], plain["xray"].flip(-1))
    torch.testing.assert_close(flipped["image"], plain["image"].flip(-1))
