"""Files and LMDB databases give the same arrays, in whichever process, and name what they cannot read."""

import io
import os
import pickle
import struct
import zlib
from multiprocessing import get_context

import cv2
import lmdb
import numpy as np
import pytest
from helpers.pack import write_lmdb, write_pack

from common.errors import DataError
from common.yaml_source import Source
from training.config.schema import Config, DataConfig
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
    assert storage.read_mask("soft.png").sum() == 4  # 155 and 55 count: preprocessing keeps 16 and more, too
    assert storage.read_mask("none.png").sum() == 0


@pytest.mark.parametrize(("value", "forged"), [(2, 0), (15, 0), (16, 16), (100, 16), (127, 16), (128, 16), (255, 16)])
@pytest.mark.parametrize("channel", [None, 0, 1, 2])
@pytest.mark.parametrize("kind", ["files", "lmdb"])
def test_a_mask_counts_from_16_of_its_brightest_channel_as_in_preprocessing(tmp_path, kind, value, forged, channel):
    mask = np.zeros((8, 8) if channel is None else (8, 8, 3), np.uint8)
    mask[2:6, 2:6] = value
    if channel is not None:
        mask[...] *= np.arange(3) == channel
    code = cv2.imencode(".png", mask)[1].tobytes()
    (tmp_path / "m.png").write_bytes(code)
    storage = FileStorage(tmp_path) if kind == "files" else database(tmp_path / "x_lmdb", **{"m.png": code})
    found = storage.read_mask("m.png")
    assert found.shape == (8, 8)
    assert found.sum() == found[2:6, 2:6].sum() == forged


def png_that_claims(width: int, height: int) -> bytes:
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0" * 64


@pytest.mark.parametrize("kind", ["files", "lmdb"])
@pytest.mark.parametrize("read", ["read_image", "read_mask"])
def test_a_picture_that_claims_too_many_pixels_is_not_decoded(tmp_path, kind, read):
    code = png_that_claims(40000, 40000)
    (tmp_path / "x.png").write_bytes(code)
    storage = FileStorage(tmp_path) if kind == "files" else database(tmp_path / "x_lmdb", **{"x.png": code})
    with pytest.raises(DataError, match=r"x\.png .*40000x40000.*max_pixels"):
        getattr(storage, read)("x.png")


def test_the_limit_of_pixels_is_a_key(root):
    config = Config(model_name="any", rgb_dir=str(root / "rgb"), lmdb_dir=str(root / "lmdb"))
    for stored in (False, True):
        small = config.model_copy(update={"lmdb": stored, "data": DataConfig(max_pixels=1023)})
        with pytest.raises(DataError, match="32x32 pixels, more than the 1023"):
            open_storage(small, "FaceForensics++").read_image(FRAME)


@pytest.fixture
def outside(tmp_path):
    """`rgb/` holds a picture of its own; `secret/` beside it another one, and so does a folder in it."""
    for folder in ("rgb/D/frames/v", "secret/frames/v"):
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "000.png"), np.full((4, 4, 3), 7, np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("rgb/D/frames/v/001.png", "secret/frames/v/000.png", "D/frames/v/001.png"),
        ("rgb/D/frames/w", "secret/frames/v", "D/frames/w/000.png"),
        ("rgb/E", "secret", "E/frames/v/000.png"),
        ("rgb/D/frames/v/001.png", "rgb/D/frames/v/002.png", "D/frames/v/001.png"),
    ],
)
def test_a_link_may_not_lead_out_of_the_root(outside, link, target, path):
    if target.startswith("rgb"):  # by way of a second link
        (outside / target).symlink_to(outside / "secret/frames/v/000.png")
    (outside / link).symlink_to(outside / target)
    (outside / "door").symlink_to(outside / "rgb")
    for root in (outside / "rgb", outside / "door"):  # the root may be a link itself
        storage = FileStorage(root)
        assert storage.read_image("D/frames/v/000.png").shape == (4, 4, 3)
        for _ in range(2):  # also when the folder is known
            with pytest.raises(DataError, match=r"link that leads out of rgb_dir.*data\.roots"):
                storage.read_image(path)
        allowed = FileStorage(root, [str(outside / "secret")])
        assert allowed.read_image(path).shape == (4, 4, 3)


def test_the_remedy_for_a_link_works_as_it_is_written(outside):
    (outside / "rgb/E").symlink_to(outside / "secret")
    with pytest.raises(DataError, match="data") as caught:
        FileStorage(outside / "rgb").read_image("E/frames/v/000.png")
    keys = Source.from_override(str(caught.value).split("--set '")[1].rstrip("'"))
    config = Config.model_validate({"model_name": "any", "rgb_dir": str(outside / "rgb"), **keys.values})
    assert open_storage(config, "E").read_image("E/frames/v/000.png").shape == (4, 4, 3)


def test_links_within_the_root_are_followed(outside):
    (outside / "rgb/E").symlink_to(outside / "rgb/D")
    (outside / "rgb/D/frames/v/001.png").symlink_to("000.png")
    storage = FileStorage(outside / "rgb")
    for path in ("E/frames/v/000.png", "D/frames/v/001.png", "E/frames/v/001.png"):
        assert storage.read_image(path).shape == (4, 4, 3)


@pytest.mark.parametrize("path", ["a\0b.png", "a\udc80\ud800.png", "x" * 600 + ".png", "a/" * 40 + "b.png", ""])
def test_what_cannot_be_a_name_is_a_sentence(tmp_path, path):
    for storage in (FileStorage(tmp_path), database(tmp_path / "x_lmdb", a=b"1")):
        with pytest.raises(DataError) as caught:
            storage.read_image(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.99])
def test_a_database_that_was_cut_short_is_measured_before_it_is_mapped(tmp_path, share):
    stored = {f"k{i:03d}": bytes([i]) * (900 * i) for i in range(60)}
    storage = database(tmp_path / "x_lmdb", **stored)
    file = tmp_path / "x_lmdb" / "data.mdb"
    whole = file.read_bytes()
    with get_context("spawn").Pool(1) as pool:  # in a process of its own: what this is about ends it by a signal
        file.write_bytes(whole[: int(len(whole) * share)])
        message = pool.apply_async(sentence, (storage, "k059")).get(60)
        assert str(file.parent) in message
        if share >= 0.3:
            assert f"data.mdb has {int(len(whole) * share)} of {len(whole)} bytes" in message
        file.write_bytes(whole)
        assert pool.apply_async(storage.read_bytes, ("k059",)).get(60) == stored["k059"]


def sentence(storage: LmdbStorage, key: str) -> str:
    """Return what reading a key ends in."""
    try:
        return f"read {len(storage.read_bytes(key))} bytes"
    except DataError as error:
        return str(error)


def test_a_database_with_freed_and_overwritten_pages_is_whole(tmp_path):
    rng = np.random.default_rng(0)
    storage = database(tmp_path / "x_lmdb")
    with lmdb.open(str(storage.path), map_size=1 << 26) as environment:
        for _ in range(20):
            with environment.begin(write=True) as transaction:
                for number in rng.integers(0, 60, 20):
                    transaction.put(b"%d" % number, bytes(int(rng.integers(10, 30000))))
                transaction.put(b"kept", b"yes")
                transaction.delete(b"%d" % rng.integers(0, 60))
    assert storage.read_bytes("kept") == b"yes"


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
    (tmp_path / "FFIW-10K_lmdb").mkdir()
    assert open_storage(config, "FFIW").path == tmp_path / "FFIW-10K_lmdb", "another name of the same dataset"
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
    "wrong_shape": npy(np.zeros((70, 2))),
    "not_numbers": npy(np.full((81, 2), "x")),
    "not_finite": npy(np.full((81, 2), np.nan)),
    "cut": npy(np.zeros((81, 2)))[:-8],
    "huge": npy(np.zeros((81, 2))).replace(b"(81, 2)", b"(99999999999, 2)").replace(b" " * 11 + b"\n", b" \n"),
    "deep": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,
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


def test_landmarks_without_a_forehead_are_read(tmp_path):
    points = np.random.default_rng(0).integers(0, 99, (68, 2)).astype(np.uint32)
    storage = database(tmp_path / "x_lmdb", file=npy(points), bare=points.tobytes())
    for name in ("file", "bare"):
        np.testing.assert_array_equal(storage.read_landmark(name), points)


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
