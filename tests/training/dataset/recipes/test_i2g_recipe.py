"""The inconsistency image generator: what its masks promise, who meets whom, and who can train on it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.faces import give_faces, landmarks, picture
from helpers.pack import write_lmdb, write_pack

from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset import build_loader
from training.dataset.recipes.blending import FACE_SHAPES

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("i2g")
    found = write_pack(root, frames=4, size=64)
    give_faces(root / "rgb")
    write_lmdb(root)
    return found


def loader(places, **more):
    keys = {
        "model_name": "pcl_xception", "train_dataset": ["FaceForensics++"], "label_dict": LABELS, "dataset_type": "i2g",
        "resolution": 64, "train_batchSize": 8, "workers": 0, "use_data_augmentation": False,
    }  # fmt: skip
    return build_loader(Config(**{**keys, **places, **more}), "train")


@pytest.mark.parametrize("lmdb", [False, True])
def test_pairs_of_real_frames_and_their_blends_exact_outside_the_mask(places, lmdb):
    seen = 0
    for batch in loader(places, lmdb=lmdb):
        assert batch["roles"] == 2
        assert batch["label"].tolist() == [0] * 4 + [1] * 4
        assert batch["method"].tolist() == [0] * 4 + [-1] * 4
        assert batch["video"][:4] == batch["video"][4:]
        assert all("/FF-real/" in video for video in batch["video"])
        assert batch["mask"].shape == batch["blend"].shape == (8, 1, 64, 64)
        assert (batch["mask"].dtype, batch["blend"].dtype) == (torch.uint8, torch.float32)
        assert torch.equal(batch["mask"].bool(), batch["blend"] > 0)
        assert not batch["blend"][:4].any()
        assert batch["blend"][4:].amax((1, 2, 3)).tolist() == pytest.approx([1] * 4, abs=1e-3)
        real, fake, mask = batch["image"][:4], batch["image"][4:], batch["mask"][4:].bool().expand(-1, 3, -1, -1)
        assert torch.equal(fake[~mask], real[~mask])
        assert (fake[mask] != real[mask]).float().mean() > 0.3
        assert all(0.05 < share < 0.8 for share in batch["mask"][4:].float().mean((1, 2, 3)).tolist())
        seen += len(batch["label"])
    assert seen == 24


def two_faces(rng, size=128):
    both = []
    for _ in range(2):
        points = landmarks(rng, size)
        both.append({"image": picture(rng, points, size), "landmark": points})
    return both


def least_squares(source, target):
    """Return the 2×3 matrix of a rotation, scale and shift that takes points nearest to points."""
    one, none = np.ones(len(source)), np.zeros(len(source))
    x, y = source.T.astype(float)
    rows = np.concatenate([np.stack([x, -y, one, none], axis=1), np.stack([y, x, none, one], axis=1)])
    a, b, right, down = np.linalg.lstsq(rows, target.T.reshape(-1), rcond=None)[0]
    return np.array([[a, -b, right], [b, a, down]])


def test_the_blend_is_the_mixture_of_the_moved_foreground_and_the_background(places, monkeypatch):
    recipe = loader(places).recipe
    background, foreground = two_faces(np.random.default_rng(3))
    # Without a change of colour the foreground is known: the other face, moved landmarks on landmarks over the whole picture.
    monkeypatch.setattr("training.dataset.recipes.i2g_recipe.match_colour", lambda moved, reference, weight: moved)
    mixed, alpha = recipe.mix(background, foreground, np.random.default_rng(4))
    matrix = least_squares(foreground["landmark"][:68], background["landmark"][:68])
    source = cv2.warpAffine(foreground["image"], matrix, (128, 128), borderMode=cv2.BORDER_REFLECT_101)
    wanted = background["image"] + alpha[..., None].astype(float) * (source.astype(float) - background["image"])
    assert np.abs(mixed - wanted).mean() < 1.5
    assert alpha.max() == pytest.approx(1, abs=1e-3)
    again, same = recipe.mix(background, foreground, np.random.default_rng(4))
    np.testing.assert_array_equal(again, mixed)
    np.testing.assert_array_equal(same, alpha)
    assert (recipe.mix(background, foreground, np.random.default_rng(5))[1] != alpha).any()


def test_the_foreground_takes_the_background_s_colours(places):
    recipe = loader(places).recipe
    background, foreground = two_faces(np.random.default_rng(6))
    foreground["image"] = (foreground["image"] // 3).astype(np.uint8)
    mixed, alpha = recipe.mix(background, foreground, np.random.default_rng(4))
    inside = alpha > 0.9
    assert np.abs(mixed[inside].mean(0) - background["image"][inside].mean(0)).max() < 12


def test_masks_are_deformed_and_come_in_the_shapes_asked_for(places):
    points, areas = landmarks(np.random.default_rng(1), 128), {}
    for shape in FACE_SHAPES:
        recipe = loader(places, recipe={"shapes": [shape], "elastic_alpha": 0.0}).recipe
        masks = [recipe.mask(points, 128, 128, np.random.default_rng(n)) for n in range(8)]
        areas[shape] = np.mean([mask.mean() for mask in masks])
    assert areas["hull"] > 1.1 * max(areas[shape] for shape in FACE_SHAPES[1:])
    stiff, soft = (
        loader(places, recipe={"elastic_alpha": a, "kernels": [3, 3], "sigma": [1, 1]}).recipe.mask(
            points, 128, 128, np.random.default_rng(0)
        )
        for a in (0.0, 50.0)
    )
    assert 0.01 < np.abs(stiff - soft).mean() < 0.15


def test_degenerate_landmarks_are_named_and_masks_without_a_face_take_the_standard_one(places):
    recipe = loader(places).recipe
    background, foreground = two_faces(np.random.default_rng(2))
    spot = np.full((81, 2), 30.0)
    assert 0.1 < (recipe.mask(spot, 128, 128, np.random.default_rng(0)) > 0).mean() < 0.6
    foreground["landmark"] = spot
    with pytest.raises(DataError, match="landmarks are no face"):
        recipe.mix(background, foreground, np.random.default_rng(0))


def test_partners_are_other_people(places, monkeypatch):
    made = loader(places)
    seen, raw = [], made.reader.raw
    monkeypatch.setattr(made.reader, "raw", lambda v, p, *a, **k: seen.append(v) or raw(v, p, *a, **k))
    for draw in made.recipe.draws(1, 0):
        made.recipe.load(draw, made.reader, np.random.default_rng(int(draw[2])))
    assert len(seen) == 24
    for own, other in zip(seen[::2], seen[1::2], strict=True):
        assert made.index.target[own] != made.index.target[other]


@pytest.mark.parametrize("recipe", ["i2g", "facexray"])
def test_landmarks_are_handed_out_where_asked(places, recipe):
    made = loader(places, dataset_type=recipe, with_landmark=True)
    batch = next(iter(made))
    assert batch["landmark"].shape == (8, 81, 2)
    assert torch.equal(batch["landmark"][:4], batch["landmark"][4:])
    assert batch.keys() - {"index", "counts"} == made.recipe.empty().keys() - {"index", "counts"}


def test_real_videos_are_all_it_needs(places, tmp_path):
    whole = json.loads(Path(places["dataset_json_folder"], "FaceForensics++.json").read_text())["FaceForensics++"]
    for kind, wanted in (("FF-real", None), ("FF-DF", "`i2g` needs real videos")):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "FaceForensics++.json").write_text(json.dumps({"FaceForensics++": {kind: whole[kind]}}))
        made = loader({**places, "dataset_json_folder": str(folder)})
        if wanted is None:
            assert len(next(iter(made))["label"]) == 8
        else:
            with pytest.raises(DataError, match=wanted):
                made.recipe.draws(1, 0)


@pytest.mark.parametrize(
    ("options", "said"), [({"shapes": []}, "shapes"), ({"shapes": ["oval"]}, "shapes"), ({"blur": 3}, "blur")]
)
def test_mistakes_are_named(places, options, said):
    with pytest.raises(ConfigError, match=rf"recipe\.{said}"):
        loader(places, recipe=options)
