"""Worker processes: that they change nothing, live as long as they should, and are missed when they die."""

import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest
import torch
from helpers.pack import VIDEOS, write_lmdb, write_pack

from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset import build_loader
from training.dataset.recipes.recipe import Recipe, frame_draws


def make(paths, **keys) -> Config:
    settings = {
        "model_name": "any",
        "train_dataset": ["FaceForensics++"],
        "test_dataset": ["FaceForensics++"],
        "train_batchSize": 4,
        "test_batchSize": 3,
        "workers": 2,
        "frame_num": {"train": 4, "test": 2},
        "resolution": 32,
        "label_dict": {"FF-real": 0, "FF-DF": 1, "FF-NT": 1},
        **paths,
    }
    return Config.model_validate({**settings, **keys})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("pack")


@pytest.fixture(scope="module")
def paths(root):
    paths = write_pack(root)
    write_lmdb(root)
    return paths


def same(a, b) -> bool:
    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        for key, value in x.items():
            equal = torch.equal(value, y[key]) if isinstance(value, torch.Tensor) else value == y[key]
            if not equal:
                return False
    return True


def epoch(loader, number=0, start=0):
    loader.set_epoch(number, start)
    return list(loader)


@pytest.mark.parametrize("recipe", [{}, {"dataset_type": "pairs"}, {"video_mode": True, "clip_size": 2}])
def test_workers_ranks_and_resume_change_nothing_of_any_recipe(paths, recipe):
    keys = {**recipe, "with_mask": True, "with_landmark": True}
    alone = build_loader(make(paths, workers=0, **keys), "train")
    others = build_loader(make(paths, workers=2, **keys), "train")
    for number in (0, 1, 5):
        want = epoch(alone, number)
        assert same(want, epoch(others, number))
        assert same(want[1:], epoch(others, number, start=1))
    ranks = [epoch(build_loader(make(paths, **keys), "train", rank=r, world_size=2), 5) for r in range(2)]
    for step, batch in enumerate(want):
        # Role by role, the processes' shares make up the global batch.
        roles = batch["roles"]
        shares = [rank[step]["image"].unflatten(0, (roles, -1)) for rank in ranks]
        assert torch.equal(torch.cat(shares, dim=1).flatten(0, 1), batch["image"])


@pytest.mark.parametrize("lmdb", [False, True])
def test_workers_that_are_spawned_read_the_same(paths, lmdb):
    want = epoch(build_loader(make(paths, workers=0, lmdb=lmdb), "train"))
    loader = build_loader(make(paths, workers=1, lmdb=lmdb), "train")
    loader.start_method = "spawn"
    assert same(want, epoch(loader))


def test_what_a_worker_is_sent_does_not_grow_with_the_data(tmp_path):
    sizes = []
    for count in (3, 60):
        names = [f"{i:03d}" for i in range(count)]
        videos = {"FF-real": {"train": names}, "FF-DF": {"train": [f"{n}_{n}" for n in names]}}
        folder = tmp_path / str(count)
        folder.mkdir()
        loader = build_loader(make(write_pack(folder, frames=8, size=8, videos=videos)), "train")
        loader.draws()
        sizes.append(len(pickle.dumps((loader.recipe, loader.reader))))
    # A few numbers per video, nothing per frame.
    assert sizes[1] - sizes[0] < 2 * 57 * 80


def children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children()}


def test_training_workers_live_on_and_test_workers_do_not(paths):
    before = children()
    train = build_loader(make(paths), "train")
    epoch(train)
    kept = children() - before
    assert len(kept) == 2
    epoch(train, 1)
    assert children() - before == kept
    epoch(build_loader(make(paths), "test"))
    assert children() - before == kept
    del train
    assert children() == before


def test_an_epoch_that_is_left_early_does_not_disturb_the_next(paths):
    want = epoch(build_loader(make(paths, workers=0), "train"), 1)
    loader = build_loader(make(paths), "train")
    for _ in loader:
        break
    assert same(want, epoch(loader, 1))


def test_a_killed_worker_is_one_clear_error(paths):
    loader = build_loader(make(paths, train_batchSize=1), "train")
    before = children()

    def read_and_kill():
        for _ in loader:
            for pid in children() - before:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(DataError, match="worker of the train split died"):
        read_and_kill()
    assert len(epoch(loader)) == 28  # and the loader starts new ones


def test_workers_killed_between_two_epochs_are_the_same_clear_error(paths):
    loader = build_loader(make(paths), "train")
    before = children()
    want = epoch(loader)
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(DataError, match="worker of the train split died"):
        epoch(loader, 1)
    assert same(want, epoch(loader))


@pytest.mark.parametrize("start_method", [None, "spawn"])
def test_no_worker_can_die_with_a_lock_that_ending_the_others_needs(paths, start_method):
    loader = build_loader(make(paths, train_batchSize=4), "train")
    loader.start_method = start_method
    before = children()
    next(iter(loader))
    event = loader._loader._iterator._workers_done_event
    assert not [held for held in vars(event).values() if hasattr(held, "acquire")]
    assert not event.is_set()
    workers = [child for child in multiprocessing.active_children() if child.pid not in before]
    event.set()  # the workers see it, and end by themselves
    loader._loader._iterator._shutdown = True
    for queue in loader._loader._iterator._index_queues:
        queue.put(None)
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]


class Faulty(Recipe):
    """A recipe with a bug, not with bad data."""

    def draws(self, seed, epoch):
        return frame_draws(self.index, 2)

    def load(self, draw, reader, rng):
        raise RuntimeError("a bug in a DataLoader worker")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_is_not_taken_for_a_death(paths, workers):
    loader = build_loader(make(paths, workers=workers), "train")
    loader.recipe = Faulty(loader.config, loader.index)
    with pytest.raises(RuntimeError, match="a bug"):
        list(loader)


# --- dropping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pair_is_dropped_whole(tmp_path, workers):
    paths = write_pack(tmp_path)
    (tmp_path / "rgb/FaceForensics++/original_sequences/youtube/c23/frames/071/007.png").unlink()
    config = make(paths, workers=workers, dataset_type="pairs", train_batchSize=32, data={"on_error": "skip"})
    loader = build_loader(config, "train")
    for number in range(2):
        (batch,) = epoch(loader, number)
        # Two fakes show 071, each at four moments; one moment of each is gone.
        assert batch["label"].tolist() == [0] * 14 + [1] * 14
        assert len(batch["image"]) == 28
        keys = list(zip(batch["video"], batch["frame"].tolist(), strict=True))
        assert ("FaceForensics++/FF-real/c23/071", 7) not in keys
        assert ("FaceForensics++/FF-DF/c23/071_054", 7) not in keys
    assert len(loader.skipped) == 2  # each named once, however many epochs met it
    assert all("007.png" in line for line in loader.skipped)


def test_other_samples_are_as_they_would_have_been(tmp_path):
    paths = write_pack(tmp_path)
    whole = epoch(build_loader(make(paths), "train"))
    (tmp_path / "rgb/FaceForensics++/original_sequences/youtube/c23/frames/071/007.png").write_bytes(b"")
    rest = epoch(build_loader(make(paths, data={"on_error": "skip"}), "train"))
    for a, b in zip(whole, rest, strict=True):
        kept = [
            i for i, (v, f) in enumerate(zip(a["video"], a["frame"].tolist())) if not (v.endswith("/071") and f == 7)
        ]
        assert torch.equal(a["image"][kept], b["image"])
        assert a["index"][kept].tolist() == b["index"].tolist()


def test_a_share_without_samples_still_makes_its_step(paths):
    batches = [
        epoch(build_loader(make(paths, train_batchSize=32, dry_run=True), "train", rank=r, world_size=32))
        for r in range(32)
    ]
    assert {len(part) for part in batches} == {1}
    sizes = [len(part[0]["label"]) for part in batches]
    assert sum(sizes) == 20
    assert 0 in sizes
    assert all(part[0]["image"].shape[1:] == (3, 32, 32) for part in batches)


# --- splits ------------------------------------------------------------------------------------------------------------


def test_evaluation_is_plain_whatever_the_recipe(paths):
    config = make(paths, dataset_type="pairs", recipe={"partner": "any"})
    for split in ("val", "test"):
        loader = build_loader(config, split)
        batches = list(loader)
        assert {batch["roles"] for batch in batches} == {1}
        assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(2 * len(loader.index)))
        assert same(batches, epoch(loader, 3))  # no epoch, no order, no augmentation
    plain = build_loader(config.model_copy(update={"use_data_augmentation": False}), "test")
    assert same(batches, list(plain))


def test_validation_takes_its_own_number_of_frames(paths):
    loader = build_loader(make(paths, frame_num={"train": 4, "val": 3, "test": 1}), "val")
    assert len(torch.cat([batch["index"] for batch in loader])) == 3 * len(loader.index)


def test_videos_are_left_out_by_their_unique_names_too(paths):
    config = make(paths)
    name = "FaceForensics++/FF-DF/c23/720_672"
    assert name in build_loader(config, "val").index.video_ids()
    loader = build_loader(config, "val", exclude={name})
    assert name not in loader.index.video_ids()
    everything = build_loader(config, "val", exclude=build_loader(config, "val").index.video_ids())
    assert len(everything) == 0
    assert list(everything) == []


def test_test_videos_that_were_trained_on_are_said(tmp_path, caplog):
    both = {label: {**splits, "test": splits["train"][:1]} for label, splits in VIDEOS.items()}
    paths = write_pack(tmp_path, videos=both)
    build_loader(make(paths), "test")
    assert "3 of 3 test videos of FaceForensics++ were trained on" in caplog.text
    caplog.clear()
    build_loader(make(paths, train_dataset=["FF-DF"]), "test")  # not here: nothing to compare, and no error
    assert not caplog.text


def test_unknown_splits_are_refused(paths):
    with pytest.raises(ConfigError, match="no split `validation`; choose from train, val, test"):
        build_loader(make(paths), "validation")


def test_augmented_samples_depend_on_seed_and_epoch_but_not_on_neighbours(paths):
    small = epoch(build_loader(make(paths, train_batchSize=2), "train"), 2)
    large = epoch(build_loader(make(paths, train_batchSize=4), "train"), 2)
    assert torch.equal(torch.cat([b["image"] for b in small]), torch.cat([b["image"] for b in large]))
    other = torch.cat([b["image"] for b in epoch(build_loader(make(paths, manualSeed=3), "train"), 2)])
    assert not np.array_equal(other.numpy(), torch.cat([b["image"] for b in large]).numpy())
