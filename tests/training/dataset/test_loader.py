"""The data path from an index file to batches, on a tiny pack of the field's shape."""

import shutil
import struct
import zlib

import pytest
import torch
from helpers.pack import write_lmdb, write_pack

from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset import DataInfo, build_loader
from training.dataset.index.selection import has_split, load_index

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}


def make(paths, **keys) -> Config:
    settings = {
        "model_name": "any",
        "train_dataset": ["FaceForensics++"],
        "test_dataset": ["FaceForensics++"],
        "train_batchSize": 4,
        "test_batchSize": 3,
        "workers": 0,
        "frame_num": {"train": 2, "test": 2},
        "resolution": 24,
        "label_dict": LABELS,
        **paths,
    }
    return Config.model_validate({**settings, **keys})


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    root = tmp_path_factory.mktemp("pack")
    return root, write_pack(root)


def rows(loader, epoch=0, start=0):
    loader.set_epoch(epoch, start)
    return [(b["video"], b["frame"].tolist(), b["image"]) for b in loader]


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        x[0] == y[0] and x[1] == y[1] and torch.equal(x[2], y[2]) for x, y in zip(a, b, strict=True)
    )


def test_a_batch_is_what_the_contract_says(pack):
    loader = build_loader(make(pack[1], with_mask=True, with_landmark=True), "train")
    batch = next(iter(loader))
    assert batch["image"].shape == (4, 3, 24, 24)
    assert batch["image"].dtype == torch.uint8
    assert batch["mask"].shape == (4, 1, 24, 24)
    assert set(batch["mask"].unique().tolist()) <= {0, 1}
    assert batch["landmark"].shape == (4, 81, 2)
    for key in ("label", "method", "target_id", "source_id", "domain", "frame", "index"):
        assert batch[key].dtype == torch.int64
        assert batch[key].shape == (4,)
    assert batch["roles"] == 1
    assert all(v.startswith("FaceForensics++/FF-") and "/c23/" in v for v in batch["video"])


def test_labels_methods_and_identities(pack):
    loader = build_loader(make(pack[1]), "train")
    info = loader.info
    assert info.manipulations == {"FF-real": 0, "FF-DF": 1, "FF-NT": 2}
    assert info.counts == {"real": 6, "fake": 8, "videos_real": 3, "videos_fake": 4}
    names = {v: k for k, v in info.identities.items()}
    seen = {}
    for batch in loader:
        for i, video in enumerate(batch["video"]):
            seen[video] = (
                int(batch["method"][i]),
                names[int(batch["target_id"][i])],
                names[int(batch["source_id"][i])],
            )
    assert seen["FaceForensics++/FF-DF/c23/100_101"] == (1, "FaceForensics++:100", "FaceForensics++:101")
    assert seen["FaceForensics++/FF-NT/c23/071_054"] == (2, "FaceForensics++:071", "FaceForensics++:054")
    assert DataInfo.from_dict(info.to_dict()) == info


def test_the_same_folder_name_under_two_manipulations_is_two_videos(pack):
    index = load_index(make(pack[1]), ["FaceForensics++"], "train")
    ids = index.video_ids()
    assert len(set(ids)) == len(ids) == 7


def test_identities_that_training_never_saw_come_behind_the_known_ones(pack):
    train = build_loader(make(pack[1]), "train")
    test = build_loader(make(pack[1]), "test", data_info=train.info)
    known = set(train.info.identities.values())
    assert not known & set(test.index.target.tolist())
    assert (test.index.target >= 0).all()


@pytest.mark.parametrize("style", ["datasets", "windows", "plain", "absolute"])
def test_every_way_of_writing_paths_reads_the_same(pack, tmp_path, style):
    want = rows(build_loader(make(pack[1]), "test"))
    got = rows(build_loader(make(write_pack(tmp_path, style=style)), "test"))
    assert same(want, got)


@pytest.mark.parametrize("windows", [True, False])
def test_lmdb_gives_what_files_give(tmp_path, windows):
    paths = write_pack(tmp_path, style="windows" if windows else "datasets")
    write_lmdb(tmp_path, windows)
    keys = {"with_mask": True, "with_landmark": True}
    files = list(build_loader(make(paths, **keys), "test"))
    shutil.rmtree(tmp_path / "rgb")
    stored = list(build_loader(make(paths, lmdb=True, **keys), "test"))
    for a, b in zip(files, stored, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["mask"], b["mask"])
        assert torch.equal(a["landmark"], b["landmark"])


def test_workers_ranks_and_resume_change_no_sample(pack):
    config = make(pack[1])
    whole = rows(build_loader(config, "train"), epoch=3)
    assert len(whole) == 3  # 14 draws, batches of 4, the partial one is left out
    assert same(whole, rows(build_loader(make(pack[1], workers=2), "train"), epoch=3))
    assert same(whole[2:], rows(build_loader(config, "train"), epoch=3, start=2))
    halves = [rows(build_loader(config, "train", rank=r, world_size=2), epoch=3) for r in range(2)]
    for step, (video, frame, image) in enumerate(whole):
        assert halves[0][step][0] + halves[1][step][0] == video
        assert halves[0][step][1] + halves[1][step][1] == frame
        assert torch.equal(torch.cat([halves[0][step][2], halves[1][step][2]]), image)


def test_epochs_and_seeds_differ(pack):
    loader = build_loader(make(pack[1]), "train")
    assert not same(rows(loader, 0), rows(loader, 1))
    assert same(rows(loader, 1), rows(loader, 1))
    assert not same(rows(loader, 0), rows(build_loader(make(pack[1], manualSeed=7), "train"), 0))


def test_evaluation_shares_are_disjoint_and_complete(pack):
    config = make(pack[1])
    whole = [v for batch in rows(build_loader(config, "test")) for v in zip(batch[0], batch[1], strict=True)]
    assert len(whole) == len(set(whole)) == 10
    shares = []
    for rank in range(3):
        for batch in rows(build_loader(config, "test", rank=rank, world_size=3)):
            shares += list(zip(batch[0], batch[1], strict=True))
    assert shares == whole


def test_frames_are_spread_over_the_video(pack):
    frames = {f for _, numbers, _ in rows(build_loader(make(pack[1]), "test")) for f in numbers}
    assert frames == {0, 21}  # first and last of 0, 7, 14, 21


def test_excluded_videos_are_left_out(pack):
    config = make(pack[1])
    keys = load_index(config, ["FaceForensics++"], "val").same_video_keys()
    loader = build_loader(config, "val", exclude=keys[:1])
    assert len(loader.index) == 2
    assert keys[0] not in loader.index.same_video_keys()


def test_clips_and_pairs(pack):
    clips = build_loader(make(pack[1], video_mode=True, clip_size=2, frame_num={"train": 4, "test": 4}), "train")
    batch = next(iter(clips))
    assert batch["image"].shape == (4, 2, 3, 24, 24)
    pairs = build_loader(make(pack[1], dataset_type="pair"), "train")
    batch = next(iter(pairs))
    assert batch["roles"] == 2
    assert batch["label"].tolist() == [0, 0, 1, 1]
    for real, fake in zip(batch["video"][:2], batch["video"][2:], strict=True):
        assert fake.rpartition("/")[2].split("_")[0] == real.rpartition("/")[2]


def test_a_clip_shares_one_augmentation(tmp_path):
    paths = write_pack(tmp_path)
    for png in (tmp_path / "rgb").rglob("frames/*/*.png"):
        first = png.parent / "000.png"
        if png != first:
            shutil.copy(first, png)
    loader = build_loader(make(paths, video_mode=True, clip_size=3), "train")
    image = next(iter(loader))["image"]
    assert torch.equal(image[:, 0], image[:, 1])
    assert torch.equal(image[:, 0], image[:, 2])


def test_batch_sizes_that_cannot_be_shared_are_refused(pack):
    with pytest.raises(ConfigError, match="multiple of 3"):
        build_loader(make(pack[1]), "train", world_size=3)
    with pytest.raises(ConfigError, match="multiple of 2"):
        build_loader(make(pack[1], dataset_type="pairs", train_batchSize=5), "train")


def test_dry_run_keeps_a_handful(pack):
    assert len(load_index(make(pack[1], dry_run=True), ["FaceForensics++"], "train")) == 5


# --- mistakes, each one sentence ---------------------------------------------------------------------------------------


def error_of(paths, split="train", **keys) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        for _ in build_loader(make(paths, **keys), split):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_dataset_names_the_nearest(pack):
    message = error_of(pack[1], train_dataset=["FaceForensic++"])
    assert "did you mean FaceForensics++?" in message


def test_missing_split_compression_label_and_recipe(pack, tmp_path):
    videos = {"FF-real": {"train": ["071"]}, "FF-DF": {"train": ["071_054"]}}
    paths = write_pack(tmp_path, videos=videos)
    assert "has no test split" in error_of(paths, "test")
    assert has_split(make(paths), "FaceForensics++", "train")
    assert not has_split(make(paths), "FaceForensics++", "val")
    assert "only c23" in error_of(pack[1], compression="c40")
    assert "only c23" in error_of(pack[1], train_dataset=["FaceForensics++_c40"])
    assert "`FF-NT` of the dataset FaceForensics++" in error_of(pack[1], label_dict={"FF-real": 0, "FF-DF": 1})
    assert "train_dataset" in error_of(pack[1], train_dataset=[])
    assert "did you mean `frames`" in error_of(pack[1], dataset_type="frame")
    assert "partner" in error_of(pack[1], dataset_type="pairs", recipe={"partners": "any"})
    assert "named twice" in error_of(pack[1], train_dataset=["FaceForensics++", "FaceForensics++"])


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_samples_stop_the_run_or_are_dropped_and_listed(tmp_path, workers):
    paths = write_pack(tmp_path)
    bad = tmp_path / "rgb/FaceForensics++/original_sequences/youtube/c23/frames/953/000.png"
    bad.write_bytes(bad.read_bytes()[:50])
    message = error_of(paths, "test", workers=workers)
    assert str(bad) in message
    assert "not a readable image" in message
    loader = build_loader(make(paths, workers=workers, data={"on_error": "skip"}), "test")
    seen = [v for batch in loader for v in zip(batch["video"], batch["frame"].tolist(), strict=True)]
    assert len(seen) == 9
    assert ("FaceForensics++/FF-real/c23/953", 0) not in seen
    assert len(loader.skipped) == 1
    bad.unlink()
    assert "no such file" in error_of(paths, "test", workers=workers)


def test_a_batch_of_nothing_but_unreadable_samples_is_empty_not_filled(tmp_path):
    paths = write_pack(tmp_path)
    for png in (tmp_path / "rgb").rglob("frames/953*/*.png"):
        png.write_bytes(b"")
    config = make(paths, data={"on_error": "skip"}, test_batchSize=2, with_mask=True, with_landmark=True)
    sizes = [batch["image"].shape for batch in build_loader(config, "test")]
    assert (0, 3, 24, 24) in sizes
    assert sum(s[0] for s in sizes) == 4


def test_missing_lmdb_and_missing_key(tmp_path):
    import lmdb

    paths = write_pack(tmp_path)
    assert "no LMDB database" in error_of(paths, lmdb=True)
    write_lmdb(tmp_path)
    folder = tmp_path / "lmdb" / "FaceForensics++_lmdb"
    with lmdb.open(str(folder), map_size=1 << 28) as environment, environment.begin(write=True) as transaction:
        key = "FaceForensics++/original_sequences/youtube/c23/frames/953/000.png".replace("/", "\\")
        assert transaction.delete(key.encode())
    message = error_of(paths, "test", lmdb=True)
    assert "frames/953/000.png" in message
    assert "is missing" in message


def test_a_fake_without_its_mask_is_an_error_where_masks_are_asked_for(tmp_path):
    paths = write_pack(tmp_path)
    shutil.rmtree(tmp_path / "rgb/FaceForensics++/manipulated_sequences/Deepfakes/c23/masks")
    assert "masks" in error_of(paths, with_mask=True)


def test_a_picture_that_claims_too_much_is_skipped_like_any_other(tmp_path):
    paths = write_pack(tmp_path)
    bad = tmp_path / "rgb/FaceForensics++/original_sequences/youtube/c23/frames/953/000.png"
    header = struct.pack(">4sIIBBBBB", b"IHDR", 40000, 40000, 8, 2, 0, 0, 0)
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)))
    assert "40000x40000" in error_of(paths, "test")
    loader = build_loader(make(paths, data={"on_error": "skip"}), "test")
    assert sum(len(batch["label"]) for batch in loader) == 9
    assert "max_pixels" in loader.skipped[0]
