"""Two views of every frame."""

import numpy as np
import pytest
import torch
from helpers.faces import give_faces, landmarks, picture
from helpers.pack import write_pack

from training.config.schema import Config
from training.dataset import build_loader
from training.dataset.recipes.views_recipe import crop, erase, mirror, rectangle

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("views")
    found = write_pack(root, frames=4, size=64)
    give_faces(root / "rgb")
    return found


def loader(places, **more):
    keys = {
        "model_name": "core", "train_dataset": ["FaceForensics++"], "label_dict": LABELS, "dataset_type": "views",
        "resolution": 64, "train_batchSize": 16, "workers": 0,
    }  # fmt: skip
    return build_loader(Config(**{**keys, **places, **more}), "train")


def test_role_major_views_of_the_same_frames(places):
    batch = next(iter(loader(places)))
    assert batch["roles"] == 2
    for key in ("label", "method", "frame", "target_id"):
        assert torch.equal(batch[key][:8], batch[key][8:])
    assert batch["video"][:8] == batch["video"][8:]
    assert {0, 1} == set(batch["label"].tolist())


def test_views_differ_from_each_other_and_between_epochs(places):
    made = loader(places, recipe={"views": "crop"})
    batch = next(iter(made))
    differ = (batch["image"][:8] != batch["image"][8:]).flatten(1).any(1)
    assert differ.all()
    again = next(iter(made))
    assert torch.equal(batch["image"], again["image"])
    made.set_epoch(1)
    assert not torch.equal(batch["image"], next(iter(made))["image"])


def test_erased_rectangles_are_black_and_of_the_asked_size(places):
    share = []
    for batch in loader(places, recipe={"views": "re", "erase_prob": 1.0}):
        share += (batch["image"] == 0).all(1).float().mean((1, 2)).tolist()
    assert min(share) > 0.015
    assert max(share) < 0.25


def test_data_aug_follows_its_keys(places):
    off = {
        "flip_prob": 0,
        "rotate_prob": 0,
        "blur_prob": 0,
        "brightness_prob": 0,
        "compress_prob": 0,
        "rescale_prob": 0,
    }
    batch = next(iter(loader(places, recipe={"views": "data_aug"}, data_aug=off)))
    assert torch.equal(batch["image"][:8], batch["image"][8:])
    batch = next(iter(loader(places, recipe={"views": "data_aug"})))
    assert not torch.equal(batch["image"][:8], batch["image"][8:])


def test_rectangles_keep_area_and_shape():
    rng = np.random.default_rng(0)
    image = np.zeros((200, 160, 3), np.uint8)
    for _ in range(50):
        left, top, width, height = rectangle(image, [0.1, 0.2], [0.5, 2.0], rng)
        assert 0 <= left <= 160 - width
        assert 0 <= top <= 200 - height
        assert 0.095 < width * height / image[..., 0].size < 0.205
        assert 0.48 < width / height < 2.05


def _face():
    rng = np.random.default_rng(1)
    points = landmarks(rng, 64)
    image = picture(rng, points)
    x, y = points[30].astype(int)
    mask = np.zeros((64, 64), np.uint8)
    mask[y - 2 : y + 3, x - 2 : x + 3] = 1
    return {"image": image, "landmark": points, "mask": mask}


def test_landmarks_and_masks_move_with_the_picture():
    face = _face()
    cut = crop(face, 4, 6, 52, 54)
    x, y = cut["landmark"][30].round().astype(int)
    assert cut["mask"][y, x] == 1
    assert cut["image"].shape == face["image"].shape
    seen = mirror(face)
    x, y = seen["landmark"][30].round().astype(int)
    assert seen["mask"][y, x] == 1
    # The right eye's corner, seen in a mirror, stands on the left.
    assert seen["landmark"][36, 0] < seen["landmark"][45, 0]
    back = mirror(seen)
    np.testing.assert_allclose(back["landmark"], face["landmark"], atol=1e-4)
    np.testing.assert_array_equal(back["image"], face["image"])


def test_erasing_leaves_the_stored_frame_alone():
    face = _face()
    before = face["image"].copy()
    gone = erase(face, 10, 12, 8, 4)
    np.testing.assert_array_equal(face["image"], before)
    assert not gone["image"][12:16, 10:18].any()
    gone["image"][12:16, 10:18] = before[12:16, 10:18]
    np.testing.assert_array_equal(gone["image"], before)
