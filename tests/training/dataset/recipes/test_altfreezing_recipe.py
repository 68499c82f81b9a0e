"""AltFreezing's clips: what jumps, what halts, what is blended, whose they are, and that frames are read once."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.faces import give_faces
from helpers.pack import write_pack

from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset import build_loader
from training.dataset.recipes.altfreezing_recipe import KINDS, dropped, repeated
from training.dataset.sampling import sample_rng

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}
SIZE, FRAMES = 4, 6


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("altfreezing")
    found = write_pack(root, frames=FRAMES, size=64)
    give_faces(root / "rgb")
    return found


def loader(places, recipe=None, **more):
    keys = {
        "model_name": "altfreezing", "train_dataset": ["FaceForensics++"], "label_dict": LABELS, "dataset_type": "altfreezing",
        "resolution": 64, "train_batchSize": 4, "workers": 0, "use_data_augmentation": False, "video_mode": True,
        "clip_size": SIZE, "frame_num": {"train": SIZE}, "recipe": recipe or {},
    }  # fmt: skip
    return build_loader(Config(**{**keys, **places, **more}), "train")


def pairs(places, recipe=None, **more):
    """Return (draw, real clip, fake clip) of an epoch, straight from the recipe."""
    made = loader(places, recipe, **more)
    reader = made.reader
    rows = made.recipe.draws(5, 0)
    return [(row, *made.recipe.load(row, reader, sample_rng(5, 0, number))) for number, row in enumerate(rows)], made


def positions_of(clip, video):
    """Return which frames of a stored video a clip shows."""
    return [next(i for i, stored in enumerate(video) if np.array_equal(stored, image)) for image in clip["image"]]


def stored(made, video):
    return [made.reader.frame(video, i)["image"] for i in range(FRAMES)]


@pytest.mark.parametrize(("arguments", "wanted"), [
    ((0, 4, 10, 2, 3), [0, 1, 5, 6]), ((5, 4, 10, 1, 3), [3, 7, 8, 9]), ((2, 4, 5, 3, 9), [0, 1, 2, 4]),
    ((0, 4, 4, 1, 2), None),
])  # fmt: skip
def test_a_clip_jumps_over_frames_and_stays_inside_the_video(arguments, wanted):
    found = dropped(*arguments)
    assert (found is None) if wanted is None else found.tolist() == wanted


@pytest.mark.parametrize(("arguments", "wanted"), [
    ((0, 5, 1, 2), [0, 1, 1, 1, 2]), ((3, 4, 0, 1), [3, 3, 4, 5]), ((0, 4, 2, 9), [0, 1, 2, 2]),
])  # fmt: skip
def test_a_clip_halts_and_goes_on(arguments, wanted):
    assert repeated(*arguments).tolist() == wanted


def test_dropped_and_repeated_frames_are_the_real_video_s(places):
    for kind in ("drop", "repeat"):
        found, made = pairs(places, {"made": 1, "kinds": [kind], "most": 2})
        for row, real, fake in found:
            assert (real["label"], fake["label"], real["method"], fake["method"]) == (0, 1, 0, -1)
            assert real["video"] == fake["video"]
            video = stored(made, row[0])
            plain, other = positions_of(real, video), positions_of(fake, video)
            assert plain == list(range(plain[0], plain[0] + SIZE))
            gaps = np.diff(other)
            if kind == "drop":
                assert sorted(gaps.tolist())[:-1] == [1, 1]
                assert gaps.max() in (2, 3)
            else:
                assert set(gaps.tolist()) <= {0, 1}
                assert 1 <= (gaps == 0).sum() <= 2


def test_without_frames_to_spare_it_repeats(places):
    found, made = pairs(places, {"made": 1, "kinds": ["drop"]}, clip_size=FRAMES, frame_num={"train": FRAMES})
    for row, _, fake in found:
        assert 0 in np.diff(positions_of(fake, stored(made, row[0])))


def test_blends_change_the_inside_of_a_mask_alone_and_take_another_person(places):
    found, made = pairs(places, {"made": 1, "kinds": ["blend"]}, with_mask=True)
    index = made.recipe.index
    for row, real, fake in found:
        assert index.target[row[5]] != index.target[row[0]]
        assert index.label[row[5]] == 0
        inside = fake["mask"].astype(bool)
        assert not real["mask"].any()
        assert fake["mask"].shape == (SIZE, 64, 64)
        assert np.array_equal(fake["image"][~inside], real["image"][~inside])
        assert all((f[m] != r[m]).mean() > 0.3 for f, r, m in zip(fake["image"], real["image"], inside))


def test_a_blend_s_mask_is_deformed_alike_in_all_frames(places):
    made = loader(places)
    face = made.reader.raw(0, 0, landmark=True)
    clip = made.recipe.blended([face] * 3, [made.reader.raw(1, 0, landmark=True)] * 3, np.random.default_rng(0))
    assert all(np.array_equal(frame["image"], clip[0]["image"]) for frame in clip)


def test_half_of_the_fakes_are_recorded_and_real_clips_are_used_evenly(places):
    made = loader(places)
    rows, index = made.recipe.draws(1, 0), made.recipe.index
    fakes = int((index.label == 1).sum())
    assert len(rows) == fakes == 4
    assert (rows[:, 4] >= 0).sum() == fakes // 2
    assert (index.label[rows[:, 0]] == 0).all()
    assert (index.label[rows[rows[:, 4] < 0, 2]] == 1).all()
    assert (rows[rows[:, 4] >= 0, 2] == -1).all()
    assert np.bincount(rows[:, 0]).max() == 2  # four pairs of three real videos
    assert np.array_equal(rows, made.recipe.draws(1, 0))
    assert not np.array_equal(rows, made.recipe.draws(1, 1))
    kinds = np.concatenate([made.recipe.draws(1, epoch)[:, 4] for epoch in range(40)])
    assert set(kinds.tolist()) == {-1, 0, 1, 2}


def test_recorded_fakes_keep_their_label_and_batches_are_role_major(places):
    batch = next(iter(loader(places, {"made": 0})))
    assert batch["roles"] == 2
    assert batch["image"].shape == (4, SIZE, 3, 64, 64)
    assert batch["label"].tolist() == [0, 0, 1, 1]
    assert (batch["method"][2:] > 0).all()
    assert all("FF-DF" in video or "FF-NT" in video for video in batch["video"][2:])


def test_augmentation_is_one_for_a_clip(places):
    made = loader(places, {"made": 1, "kinds": ["repeat"], "most": 1}, use_data_augmentation=True)
    row = made.recipe.draws(0, 0)[0]
    fake = made.recipe.load(row, made.reader, np.random.default_rng(0))[1]["image"]
    assert any(np.array_equal(a, b) for a, b in pairwise(fake))  # the frame that is shown twice


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_read_once(places, kind, monkeypatch):
    made, seen = loader(places, {"made": 1, "kinds": [kind]}), []
    own = made.reader.raw
    monkeypatch.setattr(made.reader, "raw", lambda video, at, *more: seen.append((video, at)) or own(video, at, *more))
    made.recipe.load(made.recipe.draws(0, 0)[0], made.reader, np.random.default_rng(0))
    assert len(seen) == len(set(seen))


def test_real_videos_alone_will_do_and_fakes_alone_will_not(tmp_path):
    real = {"FF-real": {"train": ["071", "054"], "val": ["720"], "test": ["953"]}}
    places = write_pack(tmp_path / "real", frames=FRAMES, size=64, videos=real)
    batch = next(iter(loader(places, {"kinds": ["drop", "repeat"]})))
    assert batch["label"].tolist() == [0, 0, 1, 1]
    fakes = {"FF-DF": {"train": ["071_054"], "val": ["720_672"], "test": ["953_974"]}}
    with pytest.raises(DataError, match="`altfreezing` needs real videos"):
        next(iter(loader(write_pack(tmp_path / "fake", frames=FRAMES, size=64, videos=fakes))))


def test_bad_keys_are_a_sentence(places):
    for recipe, said in (
        ({"kinds": ["jump"]}, "recipe.kinds"),
        ({"made": 2}, "recipe.made"),
        ({"kinds": []}, "recipe.kinds"),
    ):
        with pytest.raises(ConfigError, match=said):
            loader(places, recipe)
    made = loader(places)
    row = made.recipe.draws(0, 0)[0]
    with pytest.raises(DataError, match="makes training clips"):
        made.recipe.load(row, made.reader, None)


def test_a_step_trains_on_them(places):
    from training.detectors import build_detector
    from training.detectors.registry import config_class

    made = loader(places)
    config = config_class("altfreezing")(
        model_name="altfreezing", backbone_name="resnet3d_tiny", pretrained=None, resolution=64, clip_size=SIZE
    )
    detector = build_detector(config, made.info, pretrained=False)
    batch = detector.prepare(next(iter(made)))
    detector.get_losses(batch, detector(batch))["overall"].backward()
    assert torch.isfinite(detector.head.weight.grad).all()
