"""Warping artifacts: only the face loses resolution, and only there."""

import cv2
import numpy as np
import pytest
import torch
from helpers.faces import give_faces, landmarks, picture
from helpers.pack import write_pack

from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset import build_loader

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("fwa")
    found = write_pack(root, frames=4, size=64)
    give_faces(root / "rgb")
    return found


def loader(places, **more):
    keys = {
        "model_name": "fwa", "train_dataset": ["FaceForensics++"], "label_dict": LABELS, "dataset_type": "blend",
        "resolution": 64, "train_batchSize": 8, "workers": 0, "use_data_augmentation": False,
    }  # fmt: skip
    return build_loader(Config(**{**keys, **places, **more}), "train")


def test_blend_means_this_recipe_and_only_real_videos_are_read(places):
    made = loader(places)
    assert made.recipe.name == "fwa"
    videos = [video for batch in made for video in batch["video"]]
    assert len(videos) == 24
    assert all("/FF-real/" in video for video in videos)
    batch = next(iter(made))
    assert batch["label"].tolist() == [0] * 4 + [1] * 4
    assert batch["method"].tolist() == [0] * 4 + [-1] * 4


def test_pixels_outside_the_mask_are_untouched(places):
    for batch in loader(places):
        real, fake = batch["image"][:4].numpy(), batch["image"][4:].numpy()
        mask = batch["mask"][4:].bool().expand(-1, 3, -1, -1).numpy()
        np.testing.assert_array_equal(fake[~mask], real[~mask])
        assert (fake[mask] != real[mask]).mean() > 0.8
        assert not batch["mask"][:4].any()


def _detail(image, mask):
    return np.abs(cv2.Laplacian(image.astype(np.float32).mean(2), cv2.CV_32F))[mask].mean()


def test_the_face_loses_resolution_and_keeps_its_tone(places):
    recipe = loader(places).recipe
    rng = np.random.default_rng(2)
    for _ in range(5):
        points = landmarks(rng, 128)
        image = picture(rng, points, 128)
        warped, alpha = recipe.imitate(image, points, rng)
        inside = cv2.erode((alpha > 0).astype(np.uint8), np.ones((5, 5))) > 0
        assert inside.sum() > 1000
        assert _detail(warped, inside) < 0.4 * _detail(image, inside)
        assert np.abs(warped[inside].mean(0) - image[inside].mean(0)).max() < 6


def test_a_smaller_face_loses_more(places):
    rng = np.random.default_rng(8)
    points = landmarks(rng, 128)
    image = picture(rng, points, 128)
    lost = []
    for scale in (0.2, 0.8):
        recipe = loader(places, recipe={"scale": [scale, scale], "polygon_prob": 0}).recipe
        warped, alpha = recipe.imitate(image, points, np.random.default_rng(0))
        lost.append(_detail(warped, alpha > 0))
    assert lost[0] < 0.7 * lost[1]


def test_masks_are_squares_or_follow_the_face(places):
    rng = np.random.default_rng(4)
    points = landmarks(rng, 128)
    image = picture(rng, points, 128)
    areas = []
    for chance in (0, 1):
        recipe = loader(places, recipe={"polygon_prob": chance}).recipe
        alpha = recipe.imitate(image, points, np.random.default_rng(1))[1]
        hull = cv2.convexHull(np.argwhere(alpha > 0)[:, ::-1].astype(np.float32))
        areas.append((alpha > 0).sum())
        assert (alpha > 0).sum() > 0.85 * cv2.contourArea(hull)
    assert areas[1] < areas[0]


def test_augmentation_is_drawn_for_each_of_the_two(places):
    batch = next(iter(loader(places, use_data_augmentation=True)))
    outside = ~batch["mask"][4:].bool().expand(-1, 3, -1, -1)
    changed = batch["image"][:4][outside] != batch["image"][4:][outside]
    assert changed.float().mean() > 0.5
    assert batch["image"].dtype == torch.uint8


NO_FACES = {
    "one point": lambda p: np.full_like(p, 31.0),
    "one point far off": lambda p: np.full_like(p, 4294967295.0),
    "the origin": np.zeros_like,
    "almost one point": lambda p: 31 + (p - p.mean(0)) * 1e-5,
    "far apart": lambda p: p * 1e6,
}


@pytest.mark.parametrize("kind", NO_FACES)
def test_landmarks_of_no_face_are_a_sentence(places, kind):
    rng = np.random.default_rng(4)
    points = landmarks(rng, 128)
    image = picture(rng, points, 128)
    with pytest.raises(DataError, match="its landmarks are no face"):
        loader(places).recipe.imitate(image, NO_FACES[kind](points).astype(np.float32), rng)


def test_frames_without_a_face_stop_the_loader_or_are_skipped(tmp_path):
    found = write_pack(tmp_path, frames=4, size=64)
    give_faces(tmp_path / "rgb")
    damaged = sorted((tmp_path / "rgb").rglob("landmarks/*/*.npy"))
    for path in damaged[::2]:
        np.save(path, np.full((81, 2), 20.0, np.float32))
    with pytest.raises(DataError, match=r"FF-real.*, frame .*: its landmarks are no face"):
        list(loader(found))
    kept = [video for batch in loader(found, data={"on_error": "skip"}) for video in batch["video"]]
    assert 0 < len(kept) < 24


def test_even_kernels_are_refused(places):
    with pytest.raises(ConfigError, match=r"recipe\.blur"):
        loader(places, recipe={"blur": 4})
