"""Recipes: what a draw, a sample and a batch are; pairs; and how a recipe is found."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from helpers.pack import VIDEOS, write_pack

from common.errors import ConfigError, DataError
from training.config.schema import Config, Section
from training.dataset import build_loader
from training.dataset.augmentation import Plan
from training.dataset.index.selection import load_index
from training.dataset.loader import Loader
from training.dataset.recipes.recipe import (
    FrameReader,
    Recipe,
    available_recipes,
    frame_draws,
    recipe_class,
    register_recipe,
)
from training.detectors.registry import detector_class
from training.loss.masked import known_masks

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}


def make(paths, **keys) -> Config:
    settings = {
        "model_name": "any",
        "train_dataset": ["FaceForensics++"],
        "train_batchSize": 4,
        "workers": 0,
        "frame_num": {"train": 4, "test": 4},
        "resolution": 32,
        "use_data_augmentation": False,
        "label_dict": LABELS,
        **paths,
    }
    return Config.model_validate({**settings, **keys})


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("pack"), frames=6)


def reader_of(config, augment=False) -> FrameReader:
    return build_loader(config.model_copy(update={"use_data_augmentation": augment}), "train").reader


# --- finding -----------------------------------------------------------------------------------------------------------


def test_recipes_are_found_by_file_and_by_their_other_names(paths):
    assert {"frames", "clips", "pairs"} <= set(available_recipes())
    for said, name in [(None, "frames"), ("pairs", "pairs"), ("pair", "pairs"), ("clips", "clips")]:
        assert recipe_class(make(paths, dataset_type=said)).name == name
    assert recipe_class(make(paths, video_mode=True, clip_size=2)).name == "clips"


def test_a_detector_brings_its_own_recipe(paths):
    namespace = {"__module__": "training.detectors.toyblend_detector", "roles": 1}
    cls = register_recipe(type("Toy", (Recipe,), namespace))
    assert cls.name == "toyblend"
    for said in ("toyblend", "blend"):
        assert recipe_class(make(paths, model_name="toyblend", dataset_type=said)) is cls
    with pytest.raises(ConfigError, match="no recipe `another`"):
        recipe_class(make(paths, model_name="another", dataset_type="blend"))


@pytest.mark.parametrize(("keys", "words"), [({"size": "x"}, r"recipe\.size"), ({"sise": 3}, r"recipe\.sise.*: size")])
def test_own_keys_are_checked(paths, keys, words):
    class Options(Section):
        size: int = 1

    config = make(paths, recipe=keys)
    cls = type("Sized", (Recipe,), {"Options": Options, "name": "sized"})
    index = load_index(config, ["FaceForensics++"], "train")
    with pytest.raises(ConfigError, match=words):
        cls(config, index)
    assert cls(make(paths, recipe={"size": 4}), index).options.size == 4


# --- frames ------------------------------------------------------------------------------------------------------------


def test_frame_draws_are_compact_rows(paths):
    index = load_index(make(paths), ["FaceForensics++"], "train")
    rows = frame_draws(index, 4)
    assert rows.dtype == np.int32
    assert rows[:4].tolist() == [[0, 0], [0, 2], [0, 3], [0, 5]]
    assert len(rows) == 4 * len(index)


def test_a_finished_frame_is_resized_and_augmented_together(paths):
    config = make(paths, resolution=16, with_mask=True, with_landmark=True)
    reader = reader_of(config, augment=True)
    fake = int(np.flatnonzero(reader.index.label)[0])
    raw = reader.raw(fake, 0, landmark=True, mask=True)
    plain = reader.finish(raw, None)
    assert np.array_equal(plain["image"], cv2.resize(raw["image"], (16, 16), interpolation=cv2.INTER_CUBIC))
    assert plain["mask"].sum() == 16  # 8x8 of 32x32
    assert plain["landmark"] == pytest.approx((raw["landmark"] + 0.5) / 2 - 0.5)
    flipped = reader.finish(raw, Plan(flip=True))
    assert np.array_equal(flipped["image"], plain["image"][:, ::-1])
    assert np.array_equal(flipped["mask"], plain["mask"][:, ::-1])
    assert flipped["landmark"][8] == pytest.approx([15 - plain["landmark"][8, 0], plain["landmark"][8, 1]])
    linear = reader.finish(raw, Plan(interpolation=(cv2.INTER_LINEAR, cv2.INTER_LINEAR)))
    assert np.array_equal(linear["image"], cv2.resize(raw["image"], (16, 16), interpolation=cv2.INTER_LINEAR))


def test_much_larger_crops_are_averaged_not_aliased(paths):
    reader = reader_of(make(paths, resolution=8))
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    done = reader.finish({"image": stripes}, None)["image"]
    assert done.min() >= 127
    assert done.max() <= 128


def test_a_real_frame_has_an_empty_mask(paths):
    batch = next(iter(build_loader(make(paths, with_mask=True, train_batchSize=24), "train")))
    assert batch["mask"][batch["label"] == 0].sum() == 0
    assert (batch["mask"][batch["label"] == 1].flatten(1).sum(1) == 64).all()


def test_extra_arrays_are_stacked_and_roles_come_one_after_the_other(paths):
    class Extra(Recipe):
        roles = 3

        def draws(self, seed, epoch):
            return frame_draws(self.index, 1)

        def load(self, draw, reader, rng):
            return [{**reader.frame(*map(int, draw)), "soft": np.full((1, 2), role, np.float32)} for role in range(3)]

    config = make(paths)
    loader = build_loader(config, "train")
    recipe = Extra(config, loader.index)
    rows = recipe.draws(0, 0)[:2]
    batch = recipe.collate([recipe.load(row, loader.reader, None) for row in rows])
    assert batch["soft"].tolist() == [[[float(role)] * 2] for role in (0, 0, 1, 1, 2, 2)]
    assert batch["soft"].dtype == torch.float32
    assert batch["roles"] == 3
    assert batch["video"] == [loader.index.video_id(int(v)) for v in rows[:, 0]] * 3


def test_empty_batches_have_the_form_of_full_ones(paths):
    for keys in (
        {},
        {"with_mask": True, "with_landmark": True},
        {"video_mode": True, "clip_size": 3, "with_mask": True},
    ):
        loader = build_loader(make(paths, **keys), "train")
        full, empty = next(iter(loader)), loader.recipe.empty()
        assert full.keys() == empty.keys()
        for key, value in full.items():
            if isinstance(value, torch.Tensor):
                assert empty[key].dtype == value.dtype
                assert empty[key].shape == (0, *value.shape[1:])


# --- clips -------------------------------------------------------------------------------------------------------------


def test_clips_are_successive_frames(paths):
    config = make(paths, video_mode=True, clip_size=3, with_landmark=True, with_mask=True, train_batchSize=14)
    loader = build_loader(config, "train")
    batch = next(iter(loader))
    assert batch["image"].shape == (7, 3, 3, 32, 32)  # one clip of 3 from each video's 4 frames; a part batch
    assert batch["landmark"].shape == (7, 3, 81, 2)
    assert batch["mask"].shape == (7, 3, 1, 32, 32)
    index = loader.index
    for row, video in enumerate(batch["video"]):
        number = index.video_ids().index(video)
        first = [index.frame(number, i)[1] for i in range(6)].index(int(batch["frame"][row]))
        for t in range(3):
            want = loader.reader.raw(number, first + t)["image"]
            assert np.array_equal(batch["image"][row, t].permute(1, 2, 0).numpy(), want)


def test_training_begins_each_clip_anew_and_evaluation_never(paths):
    config = make(paths, video_mode=True, clip_size=3)
    index = load_index(config, ["FaceForensics++"], "train")
    training = recipe_class(config)(config, index)
    epochs = [training.draws(0, epoch) for epoch in range(12)]
    assert {tuple(rows[:, 0]) for rows in epochs} == {tuple(range(7))}
    assert {int(start) for rows in epochs for start in rows[:, 1]} == {0, 1, 2, 3}, "a clip of 3 in 6 frames"
    assert np.array_equal(epochs[5], training.draws(0, 5)), "a resumed epoch is the same"
    testing = recipe_class(config)(config, index, "test")
    assert np.array_equal(testing.draws(0, 0), testing.draws(1, 7))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_frame_of_a_clip_is_read_once_and_its_augmentation_drawn_once(paths, split, monkeypatch):
    wanted = {"frame_num": {"train": 6, "test": 6}, "test_dataset": ["FaceForensics++"]}
    config = make(paths, video_mode=True, clip_size=2, use_data_augmentation=True, **wanted)
    loader = build_loader(config, split)
    read, plans = [], []
    raw, plan = FrameReader.raw, FrameReader.plan
    monkeypatch.setattr(FrameReader, "raw", lambda *a: read.append(a[1:3]) or raw(*a))
    monkeypatch.setattr(FrameReader, "plan", lambda *a: plans.append(1) or plan(*a))
    clips = sum(len(batch["label"]) for batch in loader)
    assert clips == len(plans)
    assert len(set(read)) == len(read) == 2 * clips
    assert clips == 3 * len(loader.index) or split == "train", "training leaves out the last part of a batch"


def test_videos_shorter_than_a_clip_are_counted_and_named_once(paths, tmp_path, caplog):
    short = write_pack(tmp_path, frames=2)
    with pytest.raises(DataError, match="no video has the 3 frames"):
        list(build_loader(make(short, video_mode=True, clip_size=3), "train"))
    index = load_index(make(paths), ["FaceForensics++"], "train")
    index.frames[[0, 4]] = 2
    caplog.clear()
    loader = Loader(make(paths, video_mode=True, clip_size=3), "train", index)
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        assert not {0, 4} & set(loader.draws()[0][:, 0].tolist())
        assert len(list(loader)) == 1
    names = [index.video_id(0), index.video_id(4)]
    assert loader.too_short == names
    said = f"2 of 7 train videos have fewer than 3 frames and give no clip: {', '.join(names)}"
    assert [record.getMessage() for record in caplog.records] == [said]


# --- pairs -------------------------------------------------------------------------------------------------------------


def pairs(paths, epoch=0, **keys):
    config = make(paths, dataset_type="pairs", **keys)
    index = load_index(config, ["FaceForensics++"], "train")
    return index, recipe_class(config)(config, index).draws(config.manualSeed, epoch)


@pytest.mark.parametrize(("partner", "part"), [("target", 0), ("source", 1)])
def test_partners_show_the_person_of_the_fake(paths, partner, part):
    index, rows = pairs(paths, recipe={"partner": partner})
    assert len(rows) == 16  # every fake frame once
    names = {index.name(real) for real in np.flatnonzero(index.label == 0)}
    for fake, at, real, real_at in rows.tolist():
        assert (index.label[fake], index.label[real]) == (1, 0)
        person = index.name(fake).split("_")[part]
        assert index.name(real) == person or person not in names
        assert real_at == at  # as many frames: the same moment


def test_any_partner_and_partners_of_unknown_people(paths, tmp_path):
    index, rows = pairs(paths, recipe={"partner": "any"})
    assert len({tuple(row) for row in rows[:, [0, 2]].tolist()}) > 4
    assert not np.array_equal(rows, pairs(paths, epoch=1, recipe={"partner": "any"})[1])
    assert np.array_equal(rows, pairs(paths, recipe={"partner": "any"})[1])
    strangers = write_pack(tmp_path, videos={**VIDEOS, "FF-DF": {"train": ["888_999"]}, "FF-NT": {"train": ["x"]}})
    index, rows = pairs(strangers)
    assert (index.label[rows[:, 2]] == 0).all()
    assert len(rows) == 8


def test_pairs_need_both_classes(paths, tmp_path):
    only = write_pack(tmp_path, videos={"FF-real": {"train": ["071"]}})
    with pytest.raises(DataError, match="pairs need real and fake"):
        pairs(only)


# --- unknown masks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shifter(tmp_path):
    """FaceForensics++ with masks (of one video only half), and FaceShifter without any, as rearrange.py writes them."""
    paths = write_pack(tmp_path, frames=4)
    index = json.loads((tmp_path / "json/FaceForensics++.json").read_text())["FaceForensics++"]
    short = index["FF-DF"]["train"]["c23"]["071_054"]
    for mask in short["masks"][2:]:
        (tmp_path / "rgb" / mask.removeprefix("./datasets/")).unlink()
    short["masks"] = short["masks"][:2]
    (tmp_path / "json/FaceForensics++.json").write_text(json.dumps({"FaceForensics++": index}))
    write_pack(tmp_path, frames=4, name="FaceShifter", videos={"FF-DF": {"train": ["100_101"]}})
    for folder in (tmp_path / "rgb/FaceShifter").rglob("masks"):
        shutil.rmtree(folder)
    index = json.loads((tmp_path / "json/FaceShifter.json").read_text())["FaceShifter"]
    entry = index["FF-DF"]["train"]["c23"]["100_101"]
    del entry["masks"]
    entry["label"] = "FF-SH"
    (tmp_path / "json/FaceShifter.json").write_text(json.dumps({"FaceShifter": index}))
    return {**paths, "train_dataset": ["FaceForensics++", "FaceShifter"], "label_dict": {**LABELS, "FF-SH": 1}}


@pytest.mark.parametrize("keys", [{}, {"video_mode": True, "clip_size": 2}, {"dataset_type": "pairs"}])
def test_frames_without_a_mask_have_an_unknown_one(shifter, keys, caplog):
    loader = build_loader(make(shifter, with_mask=True, **keys), "train")
    assert "no mask of FF-SH is listed" in caplog.text
    known: dict[str, list[bool]] = {}
    for batch in loader:
        for video, fact in zip(batch["video"], known_masks(batch["mask"], batch["label"]).tolist(), strict=True):
            known.setdefault(video, []).append(fact)
    assert not any(known["FaceShifter/FF-SH/c23/100_101"])
    half = known["FaceForensics++/FF-DF/c23/071_054"]
    assert sum(half) == len(half) / 2
    rest = [
        fact
        for video, facts in known.items()
        if "FF-SH" not in video and "DF/c23/071_054" not in video
        for fact in facts
    ]
    assert rest
    assert all(rest)


def test_a_mask_that_the_index_lists_must_be_there(shifter, tmp_path):
    next((tmp_path / "rgb").rglob("masks/054_071/000.png")).unlink()
    with pytest.raises(DataError, match=r"no such file: .*masks/054_071/000\.png; the index names it"):
        list(build_loader(make(shifter, with_mask=True), "train"))


def test_a_detector_taught_with_masks_trains_where_some_are_unknown(shifter):
    config = make(shifter, with_mask=True, resolution=64)
    batch = next(iter(build_loader(config, "train")))
    cls = detector_class("ffd")
    detector = cls(cls.Config(model_name="ffd", resolution=64), pretrained=False)
    batch = detector.prepare(dict(batch))
    losses = detector.get_losses(batch, detector(batch))
    losses["overall"].backward()
    assert torch.isfinite(losses["mask"])


def test_shrinking_averages_areas_instead_of_picking_pixels():
    from training.dataset.recipes.recipe import resize

    checks = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    sample = {"image": np.stack([checks] * 3, axis=-1)}
    resize(sample, 40)
    assert sample["image"].shape == (40, 40, 3)
    assert np.abs(sample["image"].astype(int) - 127.5).max() < 30, "a fine pattern turns grey and does not alias"
