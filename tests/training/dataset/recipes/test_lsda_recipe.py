"""Groups of a real face and a fake of every kind."""

import numpy as np
import pytest
import torch
from helpers.pack import write_pack

from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset import build_loader

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}
PEOPLE = ["071", "054", "100"]
TRAIN = {
    "FF-real": {"train": PEOPLE},
    "FF-DF": {"train": ["071_054", "054_071", "071_100", "100_054", "100_071"]},
    "FF-NT": {"train": ["071_054", "054_071", "071_100"]},  # none of 100
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("groups"), frames=6, videos=TRAIN)


def loader(places, rank=0, world_size=1, **more):
    keys = {
        "model_name": "lsda", "train_dataset": ["FaceForensics++"], "label_dict": LABELS, "dataset_type": "lsda",
        "resolution": 32, "train_batchSize": 9, "workers": 0, "use_data_augmentation": False,
        "frame_num": {"train": 4, "test": 2},
    }  # fmt: skip
    return build_loader(Config(**{**keys, **places, **more}), "train", rank=rank, world_size=world_size)


def test_a_group_is_a_real_face_and_every_kind_of_its_fakes(places):
    made = loader(places)
    sources = set()
    for epoch in range(12):
        made.set_epoch(epoch)
        (batch,) = list(made)
        assert (batch["roles"], len(batch["label"])) == (3, 9)
        assert batch["label"].tolist() == [0] * 3 + [1] * 6
        assert batch["method"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
        assert sorted(name.split("/")[-1] for name in batch["video"][:3]) == sorted(PEOPLE)
        target, source = batch["target_id"].view(3, 3), batch["source_id"].view(3, 3)
        frame, chance = batch["frame"].view(3, 3), batch["chance"].view(3, 3)
        for g, name in enumerate(batch["video"][:3]):
            assert len(set(frame[:, g].tolist())) == len(set(chance[:, g].tolist())) == 1
            assert target[0, g] == target[1, g]
            if not name.endswith("100"):
                assert target[1, g] == target[2, g]
                assert source[1, g] == source[2, g]
            if name.endswith("071"):
                sources.add(int(source[1, g]))
        assert len(set(chance[0].tolist())) == 3
    assert len(sources) == 2


def test_epochs_differ_and_repeat(places):
    made = loader(places, recipe={"groups_per_video": 2}, train_batchSize=18)
    (first,), (again,) = list(made), list(made)
    assert len(first["label"]) == 18
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["chance"], again["chance"])
    made.set_epoch(1)
    (later,) = list(made)
    assert not set(first["chance"].tolist()) & set(later["chance"].tolist())
    frames = np.concatenate([first["frame"].numpy(), later["frame"].numpy()])
    assert len(set(frames.tolist())) > 1


def test_two_processes_share_the_groups(places):
    keys = {"recipe": {"groups_per_video": 2}, "train_batchSize": 18}
    (whole,) = list(loader(places, **keys))
    parts = [next(iter(loader(places, rank=rank, world_size=2, **keys))) for rank in (0, 1)]
    for key in ("image", "chance", "method"):
        shares = [part[key].unflatten(0, (3, 3)) for part in parts]
        assert torch.equal(torch.cat(shares, dim=1).flatten(0, 1), whole[key])


def test_domains_must_be_there(places, tmp_path):
    one = write_pack(tmp_path / "one", videos={key: TRAIN[key] for key in ("FF-real", "FF-DF")})
    with pytest.raises(DataError, match="needs real videos and at least two kinds of fakes"):
        len(loader(one, train_batchSize=2))
    with pytest.raises(ConfigError, match=r"train_batchSize=10 must be a multiple of 3"):
        loader(places, train_batchSize=10)
    with pytest.raises(ConfigError, match="keys of the recipe `lsda`: groups_per_video"):
        loader(places, recipe={"groups": 2})
