"""The loaders of a run: what is read for training, and what for prediction."""

import shutil

import pytest
import torch
from helpers.pack import write_pack

from common.errors import DataError
from training.config.schema import Config
from training.session import test_loaders as loaders_of_test_sets
from training.session import training_loaders
from training.trainer.distributed import Process

ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture
def config(tmp_path):
    return Config.model_validate(
        {
            "model_name": "any",
            "train_dataset": ["FaceForensics++"],
            "test_dataset": ["FaceForensics++"],
            "train_batchSize": 4,
            "workers": 0,
            "resolution": 24,
            "frame_num": {"train": 2, "test": 2},
            "label_dict": {"FF-real": 0, "FF-DF": 1, "FF-NT": 1},
            "with_mask": True,
            "with_landmark": True,
            **write_pack(tmp_path),
        }
    )


def test_a_detector_taught_with_masks_is_tested_where_there_are_none(config, tmp_path):
    for kind in ("masks", "landmarks"):
        for folder in [path for path in tmp_path.rglob(kind) if path.is_dir()]:
            shutil.rmtree(folder)
    train, val, _ = training_loaders(config, ALONE)
    for loader in (*loaders_of_test_sets(config, None, ALONE).values(), val):
        if loader is not None:
            batch = next(iter(loader))
            assert {"mask", "landmark"}.isdisjoint(batch)
            assert len(batch["image"])
    with pytest.raises(DataError, match=r"masks|landmarks"):
        list(train)
