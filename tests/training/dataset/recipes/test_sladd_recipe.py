"""SLADD's pairs: who meets whom, what lies beside a target, where the parts of a face are, and what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.faces import give_faces, landmarks, picture
from helpers.pack import write_pack

from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset import build_loader
from training.dataset.recipes.sladd_recipe import PARTS, part_masks

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("sladd")
    found = write_pack(root, frames=4, size=64)
    give_faces(root / "rgb")
    return found


def loader(places, **more):
    keys = {
        "model_name": "sladd", "train_dataset": ["FaceForensics++"], "label_dict": LABELS, "dataset_type": "sladd",
        "resolution": 64, "train_batchSize": 8, "workers": 0, "use_data_augmentation": False,
    }  # fmt: skip
    return build_loader(Config(**{**keys, **places, **more}), "train")


def test_what_lies_beside_a_target(places):
    made = loader(places)
    batches = list(made)
    for batch in batches:
        size = len(batch["label"])
        assert batch["roles"] == 1
        for key, channels in (("image", 3), ("reference", 3), ("source", 3), ("parts", PARTS), ("mask", 1)):
            assert (batch[key].shape, batch[key].dtype) == ((size, channels, 64, 64), torch.uint8), key
        assert batch["chance"].shape == (size, 2)
        assert batch["chance"].min() >= 0
        assert batch["chance"].max() < 1
        assert batch["mask"][batch["label"] == 0].max() == 0
        share = (batch["parts"] > 127).float().mean((2, 3))
        assert share.max() < 0.6
        assert (batch["parts"].amax((2, 3)) > 60).all()
        assert "landmark" not in batch
        assert batch.keys() - {"index", "counts"} == made.recipe.empty().keys() - {"index", "counts"}
    chance = torch.cat([batch["chance"] for batch in batches])
    assert len(chance.unique(dim=0)) == len(chance)
    again = list(loader(places))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(batches, again, strict=True) for key in ("source", "parts"))


def test_a_face_meets_one_of_the_other_class_and_classes_are_even(places):
    made = loader(places)
    index, recipe = made.index, made.recipe
    rows = recipe.draws(1, 0)
    label = index.label[rows[:, 0]]
    assert (index.label[rows[:, 2]] != label).all()
    assert label.sum() * 2 == len(rows)
    assert (rows[:, 1] < index.frames[rows[:, 0]]).all()
    assert (rows[:, 3] < index.frames[rows[:, 2]]).all()
    assert (recipe.draws(1, 1)[label == 1] != rows[label == 1]).any()
    np.testing.assert_array_equal(recipe.draws(1, 0), rows)
    everything = loader(places, recipe={"balance": False}).recipe.draws(1, 0)
    assert len(everything) == index.frames.clip(max=recipe.frame_num).sum() > len(rows)


def test_of_one_class_any_other_video_is_the_partner(places, tmp_path):
    whole = json.loads(Path(places["dataset_json_folder"], "FaceForensics++.json").read_text())["FaceForensics++"]
    (tmp_path / "FaceForensics++.json").write_text(json.dumps({"FaceForensics++": {"FF-real": whole["FF-real"]}}))
    real = loader({**places, "dataset_json_folder": str(tmp_path)})
    both = loader(places, recipe={"reference": "any"})
    for made in (real, both):
        for epoch in range(8):
            rows = made.recipe.draws(1, epoch)
            assert (rows[:, 0] != rows[:, 2]).all()
    rows = both.recipe.draws(1, 0)
    assert (both.index.label[rows[:, 0]] == both.index.label[rows[:, 2]]).any()
    assert set(next(iter(real))["label"].tolist()) == {0}


def two_faces(size=128):
    rng, both = np.random.default_rng(3), []
    for _ in range(2):
        points = landmarks(rng, size)
        both.append({"image": picture(rng, points, size), "landmark": points})
    return both


def test_the_source_stands_where_the_target_stands_in_its_colours(places):
    recipe = loader(places).recipe
    target, reference = two_faces()
    reference["image"] = np.full_like(reference["image"], 40)
    for (x, y), colour in zip(reference["landmark"][[36, 45, 57]].round().astype(int), np.eye(3), strict=True):
        cv2.circle(reference["image"], (int(x), int(y)), 6, [int(c) for c in colour * 200 + 40], -1)
    source, parts = recipe.prepare(target, reference, np.random.default_rng(0))
    assert (source.shape, parts.shape) == ((128, 128, 3), (PARTS, 128, 128))
    inside = np.zeros((128, 128), np.float32)
    cv2.fillConvexPoly(inside, cv2.convexHull(target["landmark"][:68]).round().astype(np.int32), 1.0)
    means = [image[inside > 0].mean(0) for image in (source, target["image"])]
    assert np.abs(means[0] - means[1]).max() < 15
    for (x, y), channel in zip(target["landmark"][[36, 45, 57]].round().astype(int), range(3), strict=True):
        there = source[y, x].astype(int) - means[0]
        assert there.argmax() == channel


def test_parts_are_strokes_between_landmarks():
    points = landmarks(np.random.default_rng(1), 256)[:68].astype(float)
    left, right, band, nose, mouth = part_masks(points, 256, 256).astype(bool)

    def distance(begin, end):
        """Return every pixel's distance to a stretch between two points."""
        y, x = np.mgrid[:256, :256]
        along = end - begin
        share = ((x - begin[0]) * along[0] + (y - begin[1]) * along[1]) / (along @ along)
        share = share.clip(0, 1)
        return np.hypot(x - begin[0] - share * along[0], y - begin[1] - share * along[1])

    eyes = [points[[36, 39]].mean(0), points[[42, 45]].mean(0)]
    apart = np.linalg.norm(eyes[0] - eyes[1])
    width = np.linalg.norm(points[48] - points[54])
    wanted = [
        (left, points[36], points[39], np.linalg.norm(points[36] - points[39])),
        (right, points[42], points[45], np.linalg.norm(points[42] - points[45])),
        (band, *eyes, apart / 4),
        (nose, (eyes[0] + eyes[1]) / 2, points[33], apart / 4),
        (mouth, points[48], points[54], width / 3),
    ]
    for mask, begin, end, reach in wanted:
        far = distance(begin, end)
        assert mask[far < reach - 2].all()
        assert not mask[far > reach + 2].any()


def test_masks_are_deformed_and_grow_or_shrink_alike(places):
    points = landmarks(np.random.default_rng(1), 128)[:68]
    plain = loader(places, recipe={"elastic_alpha": 0.0, "grow": [1, 1], "blur": [1, 1]}).recipe
    np.testing.assert_array_equal(
        plain.parts(points, 128, 128, np.random.default_rng(0)), part_masks(points, 128, 128) * 255
    )
    sized = loader(places, recipe={"elastic_alpha": 0.0, "blur": [1, 1], "grow": [10, 10]}).recipe
    areas = np.array([[m.mean() for m in sized.parts(points, 128, 128, np.random.default_rng(n))] for n in range(30)])
    whole = part_masks(points, 128, 128).mean((1, 2)) * 255
    kinds = np.sign(areas - whole)
    assert (kinds == kinds[:, :1]).all()
    assert set(kinds[:, 0]) == {-1, 0, 1}
    bent = loader(places, recipe={"grow": [1, 1], "blur": [1, 1]}).recipe
    moved = bent.parts(points, 128, 128, np.random.default_rng(0)) != part_masks(points, 128, 128) * 255
    assert 0.001 < moved.mean() < 0.15


def test_landmarks_and_augmentation_follow(places):
    made = loader(places, with_landmark=True, use_data_augmentation=True, data_aug={"flip_prob": 1.0})
    batch = next(iter(made))
    assert batch["landmark"].shape == (8, 81, 2)
    assert batch.keys() - {"index", "counts"} == made.recipe.empty().keys() - {"index", "counts"}
    # Mirrored landmarks keep their names: the left eye's part lies left of the right one's.
    columns = torch.arange(64.0)
    middle = [(p.float().sum(1) * columns).sum(1) / p.float().sum((1, 2)) for p in batch["parts"][:, :2].unbind(1)]
    assert (middle[0] < middle[1]).all()


def test_what_is_no_face_and_what_is_no_key_is_named(places, monkeypatch):
    made = loader(places)
    target, reference = two_faces()
    reference["landmark"] = np.full((81, 2), 30.0)
    with pytest.raises(DataError, match="landmarks are no face"):
        made.recipe.prepare(target, reference, np.random.default_rng(0))
    row = made.recipe.draws(1, 0)[0]
    raw = made.reader.raw

    def flat(video, position, **more):
        return {**raw(video, position, **more), "landmark": np.full((81, 2), 30.0)}

    monkeypatch.setattr(made.reader, "raw", flat)
    with pytest.raises(DataError, match=r"FaceForensics\+\+/.*frame .* with the face of .*landmarks are no face"):
        made.recipe.load(row, made.reader, np.random.default_rng(0))
    with pytest.raises(DataError, match="evaluation reads frames"):
        made.recipe.load(row, made.reader, None)
    for options, said in (
        ({"reference": "same"}, "reference"),
        ({"grow": [3]}, "grow"),
        ({"shapes": ["hull"]}, "shapes"),
    ):
        with pytest.raises(ConfigError, match=rf"recipe\.{said}"):
            loader(places, recipe=options)
