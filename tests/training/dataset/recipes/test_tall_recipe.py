"""TALL's clips: one block at the same place of every frame, in training only."""

import numpy as np
import pytest
import torch
from helpers.pack import write_pack

from common.errors import ConfigError
from training.config.schema import Config
from training.dataset import build_loader

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}
MEAN = [0.485, 0.456, 0.406]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("tall"), frames=4, size=64)


def clips(places, size, split="train", epoch=0, **more):
    """All clips of an epoch, uint8 `(N, T, H, W, 3)`."""
    keys = {
        "model_name": "tall", "train_dataset": ["FaceForensics++"], "label_dict": LABELS, "dataset_type": "tall",
        "video_mode": True, "clip_size": 4, "resolution": 64, "train_batchSize": 7, "workers": 0, "mean": MEAN,
        "use_data_augmentation": False, "recipe": {"mask_grid_size": size},
    }  # fmt: skip
    loader = build_loader(
        Config(**{**keys, **places, **more}), split, *([] if split == "train" else ["FaceForensics++"])
    )
    if split == "train":
        loader.set_epoch(epoch)
    batches = list(loader)
    order = np.argsort([video for batch in batches for video in batch["video"]])
    return torch.cat([batch["image"] for batch in batches])[order].movedim(2, -1).numpy()


def test_the_same_square_is_missing_in_every_frame_and_nothing_else_changes(places):
    whole, masked = clips(places, 0), clips(places, 16)
    sizes = []
    for before, after in zip(whole, masked):
        changed = (before != after).any(-1)
        ys, xs = np.nonzero(changed.any(0))
        window = np.s_[:, ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        assert (after[window] == np.round(255 * np.array(MEAN))).all()
        rest = np.ones(changed.shape, bool)
        rest[window] = False
        assert not changed[rest].any()
        sizes.append((np.ptp(ys) + 1, np.ptp(xs) + 1))
    assert max(max(size) for size in sizes) == 16
    assert len(set(sizes)) > 1 or sizes[0] != (16, 16)  # some are cut off by the edge


def test_its_place_is_drawn_anew_and_follows_the_seed(places):
    first, again, later = clips(places, 16), clips(places, 16), clips(places, 16, epoch=1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)


def test_tests_see_whole_frames(places):
    assert np.array_equal(clips(places, 16, split="test"), clips(places, 0, split="test"))


def test_the_middle_of_the_block_may_be_anywhere(places):
    missing = sum(
        (clips(places, 16, epoch=e) == np.round(255 * np.array(MEAN))).all(-1)[:, 0].sum(0) for e in range(60)
    )
    for corner in (
        missing[:16, :16],
        missing[:16, -16:],
        missing[-16:, :16],
        missing[-16:, -16:],
        missing[24:40, 24:40],
    ):
        assert corner.sum() > 0


def test_a_block_of_negative_size_is_told(places):
    with pytest.raises(ConfigError, match=r"recipe\.mask_grid_size"):
        clips(places, -1)
