"""LMDB databases: keys, bytes, codecs, going on, growing, verification."""

import json
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from helpers.drawn import boasting_png
from helpers.said import only_error
from helpers.small_disk import on_small_disk

from common.errors import ConfigError, DataError
from preprocessing import lmdb_pack
from preprocessing.to_lmdb import main
from training.dataset.storage import FileStorage, LmdbStorage

FRAME = "Mine/real/frames/v0/000.png"
POINTS = "Mine/real/landmarks/v0/000.npy"
MASK = "Mine/fake/masks/w0/000.png"


@pytest.fixture
def dataset(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for kind, stem in (("real", "v"), ("fake", "w")):
        for number in range(2):
            for product in ("frames", "landmarks", "masks"):
                if product == "masks" and kind == "real":
                    continue
                folder = tmp_path / f"rgb/Mine/{kind}/{product}/{stem}{number}"
                folder.mkdir(parents=True)
                for frame in range(3):
                    if product == "landmarks":
                        points = rng.uniform(-20, 256, (81, 2)).astype(np.float32)
                        np.save(folder / f"{frame:03d}.npy", points)
                    else:
                        small = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                        image = cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC)
                        image = np.where(image[..., 0] > 120, 255, 0).astype(np.uint8) if product == "masks" else image
                        cv2.imwrite(str(folder / f"{frame:03d}.png"), image)
    return tmp_path / "rgb"


def pack(dataset: Path, **options) -> LmdbStorage:
    out = dataset.parent / "lmdb"
    place = lmdb_pack.to_lmdb("Mine", str(dataset), str(out), layout="custom", **options)
    assert place == out / "Mine_lmdb"
    return LmdbStorage(place)


@pytest.mark.parametrize("codec", ["png", "webp", "jpeg", "raw"])
def test_codecs_give_the_pictures_back(dataset, codec, capsys):
    storage, files = pack(dataset, codec=codec, verify="all"), FileStorage(dataset)
    difference = np.abs(storage.read_image(FRAME).astype(int) - files.read_image(FRAME))
    assert difference.mean() < 3 if codec == "jpeg" else difference.max() == 0
    np.testing.assert_array_equal(storage.read_mask(MASK), files.read_mask(MASK))
    assert "images a second" in capsys.readouterr().out


def test_landmarks_are_the_fields_bytes(dataset):
    storage = pack(dataset)
    points = np.load(dataset / POINTS)
    expected = np.maximum(np.rint(points), 0).astype(np.uint32)
    assert storage.read_bytes(POINTS) == expected.tobytes()
    assert len(storage.read_bytes(POINTS)) == 648
    np.testing.assert_array_equal(storage.read_landmark(POINTS), expected)


def test_keys_of_deepfakebench(dataset):
    storage = pack(dataset, keys="deepfakebench")
    with lmdb.open(str(storage.path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        keys = {key.decode() for key, _ in transaction.cursor()}
    assert FRAME.replace("/", "\\") in keys
    assert len(keys) == 30
    np.testing.assert_array_equal(storage.read_image(FRAME), FileStorage(dataset).read_image(FRAME))


def test_a_full_map_grows(dataset, monkeypatch):
    monkeypatch.setattr(lmdb_pack, "_FIRST_MAP", 1 << 16)
    pack(dataset, codec="raw", verify="all")


def test_going_on_writes_only_what_is_missing(dataset, monkeypatch, capsys):
    monkeypatch.setattr(lmdb_pack, "_BATCH", 4)
    put, count = lmdb_pack._Pack.put, [0]

    def dying(self, items):
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt
        put(self, items)

    monkeypatch.setattr(lmdb_pack._Pack, "put", dying)
    with pytest.raises(KeyboardInterrupt):
        pack(dataset)
    monkeypatch.setattr(lmdb_pack._Pack, "put", put)
    pack(dataset)
    assert "22 entries written" in capsys.readouterr().out


def test_a_full_disk_is_a_sentence_and_the_next_run_goes_on(dataset):
    words = ["--dataset_name", "Mine", "--layout", "custom", "--dataset_root_path", str(dataset)]
    words += ["--output_lmdb_dir", str(dataset.parent / "lmdb")]
    done = on_small_disk(16_384, "preprocessing/to_lmdb.py", *words)
    assert done.returncode == 2, done.stderr
    sentence = only_error(done.stderr)
    assert sentence.startswith("error: cannot write the database")
    assert "free some" in sentence
    storage = pack(dataset, verify="all")
    np.testing.assert_array_equal(storage.read_image(FRAME), FileStorage(dataset).read_image(FRAME))


def test_another_codec_in_a_begun_database(dataset):
    pack(dataset, codec="png")
    with pytest.raises(ConfigError, match="png"):
        pack(dataset, codec="webp")


def test_verification_finds_what_differs(dataset):
    storage = pack(dataset)
    with lmdb.open(str(storage.path)) as environment, environment.begin(write=True) as transaction:
        other = transaction.get(FRAME.replace("v0", "v1").encode())
        transaction.put(FRAME.encode(), other)
    with pytest.raises(DataError, match="something else"):
        pack(dataset, verify="all")


def test_faults_are_named(dataset):
    (dataset / FRAME).write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"v0/000\.png"):
        pack(dataset)
    (dataset / FRAME).write_bytes(boasting_png())
    with pytest.raises(DataError, match=r"v0/000\.png says it has 40000x40000 pixels"):
        pack(dataset)
    for options in ({"codec": "bmp"}, {"keys": "dots"}, {"verify": "none"}, {"quality": 0}):
        with pytest.raises(ConfigError):
            pack(dataset, **options)


def test_command_line(dataset, tmp_path):
    arguments = ["--dataset_name", "Mine", "--layout", "custom", "--dataset_root_path", str(dataset / "Mine")]
    assert main([*arguments, "--output_lmdb_dir", str(tmp_path / "db"), "--dataset_size", "25"]) == 0
    marks = json.loads((tmp_path / "db/Mine_lmdb/pack.json").read_text())
    assert marks == {"codec": "png", "quality": None, "keys": "posix"}


def test_a_limit_of_pixels_is_an_option(tmp_path):
    import cv2
    import numpy as np

    from common.errors import DataError
    from preprocessing.lmdb_pack import Form, encoded

    path = tmp_path / "000.png"
    cv2.imwrite(str(path), np.zeros((20, 30, 3), np.uint8))
    assert encoded(path, Form(max_pixels=600)) == path.read_bytes()
    with pytest.raises(DataError, match="30x20 pixels"):
        encoded(path, Form(max_pixels=599))
