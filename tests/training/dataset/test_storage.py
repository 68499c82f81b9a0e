"""Files and LMDB databases give the same arrays, in whichever process, and name what they cannot read."""

import io
import os
import pickle
from multiprocessing import get_context

import cv2
import lmdb
import numpy as np
import pytest
from helpers.pack import write_lmdb, write_pack

from common.errors import DataError
from training.config.schema import Config
from training.dataset.storage import FileStorage, LmdbStorage, open_storage

FRAME = "FaceForensics++/manipulated_sequences/Deepfakes/c23/frames/071_054/007.png"
MASK = FRAME.replace("frames", "masks")
POINTS = FRAME.replace("frames", "landmarks").replace(".png", ".npy")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    write_pack(folder)
    write_lmdb(folder)
    return folder


def database(folder, **items: bytes) -> LmdbStorage:
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 22) as environment, environment.begin(write=True) as transaction:
        for key, value in items.items():
            transaction.put(key.encode(), value)
    return LmdbStorage(folder)


@pytest.mark.parametrize("kind", ["files", "lmdb"])
def test_images_are_rgb_masks_binary_landmarks_float(root, kind):
    storage = FileStorage(root / "rgb") if kind == "files" else LmdbStorage(root / "lmdb" / "FaceForensics++_lmdb")
    image = storage.read_image(FRAME)
    assert np.array_equal(image, cv2.imread(str(root / "rgb" / FRAME))[..., ::-1])
    mask = storage.read_mask(MASK)
    assert mask.dtype == np.uint8
    assert mask.sum() == 64
    assert mask[8:16, 8:16].all()
    points = storage.read_landmark(POINTS)
    assert points.dtype == np.float32
    assert np.array_equal(points, np.load(root / "rgb" / POINTS))
    assert storage.read_bytes(FRAME) == (root / "rgb" / FRAME).read_bytes()


def test_masks_of_zeros_and_ones_are_masks_too(tmp_path):
    mask = np.zeros((4, 4), np.uint8)
    mask[1:3, 1:3] = 1
    cv2.imwrite(str(tmp_path / "ones.png"), mask)
    cv2.imwrite(str(tmp_path / "soft.png"), mask * 255 - (mask.cumsum(axis=1) * 100).astype(np.uint8) * mask)
    cv2.imwrite(str(tmp_path / "none.png"), mask * 0)
    storage = FileStorage(tmp_path)
    assert np.array_equal(storage.read_mask("ones.png"), mask)
    assert storage.read_mask("soft.png").sum() == 2  # 155 counts, 55 does not
    assert storage.read_mask("none.png").sum() == 0


def test_two_storages_of_one_database_and_a_fork_each_read(root):
    path = root / "lmdb" / "FaceForensics++_lmdb"
    first, second = LmdbStorage(path), LmdbStorage(path)
    want = first.read_bytes(FRAME)
    assert second.read_bytes(FRAME) == want
    for method in ("fork", "spawn"):
        with get_context(method).Pool(2) as pool:
            assert pool.map(pickle.loads(pickle.dumps(first)).read_bytes, [FRAME] * 8) == [want] * 8
    assert first.read_bytes(FRAME) == want  # the children closed their own copies only


def test_ffpp_relatives_share_a_database_unless_they_have_one(tmp_path):
    config = Config(model_name="any", lmdb=True, lmdb_dir=str(tmp_path))
    for name in ("FaceForensics++", "FF-DF", "FF-NT_c40", "FaceShifter", "DeepFakeDetection"):
        storage = open_storage(config, name)
        assert isinstance(storage, LmdbStorage)
        assert storage.path == tmp_path / "FaceForensics++_lmdb"
    assert open_storage(config, "Celeb-DF-v2").path == tmp_path / "Celeb-DF-v2_lmdb"
    (tmp_path / "FaceShifter_lmdb").mkdir()
    assert open_storage(config, "FaceShifter").path == tmp_path / "FaceShifter_lmdb"
    files = open_storage(config.model_copy(update={"lmdb": False, "rgb_dir": "a/b"}), "FaceShifter")
    assert isinstance(files, FileStorage)


def npy(array, **keys) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **keys)
    return file.getvalue()


BAD_LANDMARKS = {
    "short": np.zeros((81, 2), np.uint32).tobytes()[:-1],
    "empty": b"",
    "wrong_shape": npy(np.zeros((68, 2))),
    "not_numbers": npy(np.full((81, 2), "x")),
    "not_finite": npy(np.full((81, 2), np.nan)),
    "cut": npy(np.zeros((81, 2)))[:-8],
    "pickle": npy(np.array([[{}] * 2] * 81, object), allow_pickle=True),
}


@pytest.mark.parametrize("kind", ["files", "lmdb"])
@pytest.mark.parametrize("name", BAD_LANDMARKS)
def test_bad_landmarks_are_named(tmp_path, kind, name):
    if kind == "files":
        (tmp_path / name).write_bytes(BAD_LANDMARKS[name])
        storage = FileStorage(tmp_path)
    else:
        storage = database(tmp_path / "x_lmdb", **{name: BAD_LANDMARKS[name]})
    with pytest.raises(DataError, match=f"{name}.*preprocess"):
        storage.read_landmark(name)


def test_landmarks_of_float_files_are_read_from_a_database_too(tmp_path):
    points = np.random.default_rng(0).uniform(0, 99, (81, 2))
    storage = database(tmp_path / "x_lmdb", floats=npy(points), whole=points.astype(np.uint32).tobytes())
    assert storage.read_landmark("floats") == pytest.approx(points, rel=1e-6)
    assert np.array_equal(storage.read_landmark("whole"), points.astype(np.uint32))


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_bad_images_are_named(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content if content is not None else b"")
    storage, place = FileStorage(tmp_path), str(tmp_path / "x.png")
    if content is None:
        os.remove(place)
    with pytest.raises(DataError, match=place):
        storage.read_image("x.png")
    stored = database(tmp_path / "x_lmdb", **({} if content in (None, b"") else {"x.png": content}))
    with pytest.raises(DataError, match=r"the key x\.png of the database .*x_lmdb"):
        stored.read_image("x.png")


def test_a_folder_in_the_place_of_a_file_and_a_broken_database(tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(DataError, match="cannot read"):
        FileStorage(tmp_path).read_image("x.png")
    (tmp_path / "x_lmdb").mkdir()
    with pytest.raises(DataError, match=r"no LMDB database at .*to_lmdb\.py"):
        LmdbStorage(tmp_path / "x_lmdb").read_bytes("a")
    (tmp_path / "x_lmdb" / "data.mdb").write_bytes(b"nonsense" * 4096)
    with pytest.raises(DataError, match="cannot open the LMDB database"):
        LmdbStorage(tmp_path / "x_lmdb").read_bytes("a")
