"""A dataset's frames, masks and landmarks in one LMDB database: keys are paths below the rgb_dir, values encoded files.

Images stay in a form that `cv2.imdecode` reads, whatever the codec, so readers need not be told which it was; landmarks are
81 x 2 little-endian uint32, as in DeepfakeBench's databases (which cannot hold a negative coordinate: it becomes 0).
"""

import json
import posixpath
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from common.errors import ConfigError, DataError, ProjectError
from common.images import MAX_PIXELS, decode_picture, read_file
from common.io import make_folder, read_json, write_json
from preprocessing.frame_folders import find_frames
from preprocessing.layouts import Group, find_layout
from preprocessing.layouts._base import PRODUCTS
from preprocessing.media import is_picture, some, walk
from preprocessing.options import dataset_folder
from preprocessing.output_lock import hold
from preprocessing.run_preprocess import chosen_groups, say

CODECS = ("png", "webp", "jpeg", "raw")
KEYS = ("posix", "deepfakebench")
_BATCH = 256  # files per transaction: what a kill can cost
_SAMPLE = 1000  # entries decoded again by --verify sample
_FIRST_MAP = 1 << 28
_MARKS = "pack.json"  # beside data.mdb: what the database was written with

Codec = Callable[[Path], bytes]


@dataclass(frozen=True)
class Form:
    """How entries are stored: `codec` and its `quality`, `keys`, and of how many pixels a picture may be."""

    codec: str = "png"
    quality: int = 95
    keys: str = "posix"
    max_pixels: int = MAX_PIXELS


def to_lmdb(
    dataset_name: str,
    dataset_root_path: str,
    output_lmdb_dir: str,
    layout: str | None = None,
    codec: str | None = None,
    quality: int | None = None,
    keys: str | None = None,
    verify: str | None = None,
    comp: str | None = None,
    max_pixels: int | None = None,
) -> Path:
    """Pack one dataset, or go on packing it; returns the database's folder.

    Raises:
        ConfigError: an option is wrong, or the database was begun with another codec. DataError: nothing to pack, or
            the verification found a difference.
    """
    codec, keys, verify = codec or "png", keys or "posix", verify or "sample"
    for flag, value, known in (("codec", codec, CODECS), ("keys", keys, KEYS), ("verify", verify, ("sample", "all"))):
        if value not in known:
            raise ConfigError(f"--{flag} {value}: choose one of {', '.join(known)}")
    quality = 95 if quality is None else quality
    if not 1 <= quality <= 100:
        raise ConfigError(f"--quality {quality}: it must lie between 1 and 100")
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if limit < 1:
        raise ConfigError(f"--max_pixels {limit}: write how many pixels a picture may have, for example 64000000")
    if not output_lmdb_dir:
        raise ConfigError("output_lmdb_dir is not set; give --output_lmdb_dir, the folder for the database")
    rules = find_layout(dataset_name, layout)
    folder = rules.folder(dataset_name)
    root = dataset_folder(dataset_root_path, folder, rules.recognises)
    groups = chosen_groups(rules, root, dataset_name, comp, None)
    place = Path(output_lmdb_dir).expanduser() / f"{rules.database(dataset_name)}_lmdb"
    say(f"packing {root} -> {place}")
    make_folder(place, "--output_lmdb_dir")
    busy = f"another to_lmdb.py is writing {place} now; wait for it, or choose another place with --output_lmdb_dir"
    with hold(place / ".to_lmdb.lock", busy, "--output_lmdb_dir"):
        _pack_and_check(place, root, groups, Form(codec, quality, keys, limit), verify == "all")
    return place


def _pack_and_check(place: Path, root: Path, groups: list[Group], form: Form, everything: bool) -> None:
    quality = form.quality if form.codec == "jpeg" else None
    pack = _Pack(place, {"codec": form.codec, "quality": quality, "keys": form.keys})
    files = product_files(root, groups)
    for sentence in files.left_out:
        say(f"left out: {sentence}")
    try:
        _fill(pack, root, files.paths, form)
        _check(pack, root, files.paths, form, everything)
    finally:
        pack.close()


class _Pack:
    """An LMDB environment whose map grows when it is full."""

    def __init__(self, place: Path, marks: dict[str, Any]):
        import lmdb

        self.place, self._full, self._error = place, lmdb.MapFullError, lmdb.Error
        begun = place / _MARKS
        if begun.exists() and read_json(begun) != marks:
            raise ConfigError(
                f"{place} was begun with {json.dumps(read_json(begun))}; use the same options, or another folder"
            )
        try:
            self.environment = lmdb.open(str(place), map_size=_FIRST_MAP, readahead=False)
        except lmdb.Error as error:
            raise DataError(f"cannot open the database {place}: {error}; remove it to begin again") from error
        if not begun.exists():
            write_json(begun, marks)
        size = self.environment.info()["map_size"]
        self.environment.set_mapsize(max(size, _FIRST_MAP))

    def missing(self, keys: list[bytes]) -> list[bool]:
        """Tell for each key whether the database lacks it."""
        with self.environment.begin() as transaction:
            cursor = transaction.cursor()
            return [not cursor.set_key(key) for key in keys]

    def put(self, items: list[tuple[bytes, bytes]]) -> None:
        """Write a batch whole; a full map is doubled and the batch written again. ProjectError: it cannot be written."""
        while True:
            try:
                with self.environment.begin(write=True) as transaction:
                    for key, value in items:
                        transaction.put(key, value)
                return
            except self._full:
                self.environment.set_mapsize(2 * self.environment.info()["map_size"])
            except self._error as error:
                raise ProjectError(
                    f"cannot write the database {self.place} ({error}), most often for want of space; free some or choose "
                    "another --output_lmdb_dir, and run to_lmdb.py again: what is packed stays"
                ) from error

    def get(self, key: bytes) -> bytes | None:
        """Return a value."""
        with self.environment.begin() as transaction:
            return transaction.get(key)

    def close(self) -> None:
        """Flush and close."""
        self.environment.sync(True)
        self.environment.close()


@dataclass(frozen=True)
class Products:
    """What a database holds: `paths` relative to the dataset's folder, forward slashes; and what it does not, in sentences."""

    paths: list[str]
    left_out: list[str]


def product_files(root: Path, groups: list[Group]) -> Products:
    """Return every frame that an index of the groups names, and the masks and landmarks beside them."""
    paths: list[str] = []
    left: dict[str, list[str]] = {}
    sentences = []
    for group in groups:
        found = find_frames(root, group)
        for why, names in found.left_out.items():
            left.setdefault(why, []).extend(names)
        if found.missing:
            sentences.append(f"{group.folder} has no frames/ yet; run preprocess.py to make them")
            continue
        paths += [f"{video.folder}/{name}" for video in found.videos for name in video.files]
        for kind, wanted in (("landmarks", _is_landmarks), ("masks", is_picture)):
            base = posixpath.join(group.folder, kind)
            for visit in walk(root / base):
                files = [posixpath.normpath(f"{base}/{visit.path.as_posix()}/{name}") for name in visit.files]
                paths += [path for path in files if wanted(path)]
                left.setdefault(f"no {kind} by the ending", []).extend(path for path in files if not wanted(path))
    counted = [f"{len(names)} files or folders ({why}): {some(names)}" for why, names in left.items() if names]
    return Products(paths, sentences + counted)


def _is_landmarks(path: str) -> bool:
    return path.lower().endswith(".npy")


def key_of(folder: str, path: str, keys: str) -> bytes:
    """Return the key of a file: `<dataset>/<path>`, with backslashes in DeepfakeBench's form."""
    key = posixpath.normpath(f"{folder}/{path}")  # real faces of another dataset: DF40/../FaceForensics++/…
    return (key.replace("/", "\\") if keys == "deepfakebench" else key).encode()


def encoded(path: Path, form: Form) -> bytes:
    """Return what is stored for a file.

    Raises:
        DataError: the file is damaged.
    """
    if _is_landmarks(path.name):
        return landmark_bytes(path)
    data, codec = read_file(path), form.codec
    image = _decoded(data, str(path), form.max_pixels)
    if codec == "png":
        return data
    import cv2

    forms = {
        "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),  # above 100 is lossless
        "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, form.quality]),
        "raw": (".ppm" if image.ndim == 3 else ".pgm", [cv2.IMWRITE_PXM_BINARY, 1]),
    }
    # Masks must stay exact: JPEG is for pictures only.
    suffix, options = forms["webp" if codec == "jpeg" and _is_mask(str(path)) else codec]
    try:
        done, coded = cv2.imencode(suffix, image, options)
    except cv2.error:  # of a depth that the form does not know
        done = False
    if not done:
        raise DataError(f"{path} cannot be stored as {codec}; choose another --codec")
    return coded.tobytes()


def _is_mask(path: str) -> bool:
    kinds = [part for part in Path(path).parts if part in PRODUCTS]
    return kinds[-1:] == ["masks"]


def _decoded(data: bytes, place: str, max_pixels: int) -> np.ndarray:
    """Return a picture as its reader will see it: frames in color and upright, masks in their own colors and depth."""
    import cv2

    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if _is_mask(place) else cv2.IMREAD_COLOR
    return decode_picture(data, place, flags, max_pixels, cure="make it again with preprocess.py")


def landmark_bytes(path: Path) -> bytes:
    """Return the bytes of a landmark file as uint32: 648 of (81, 2), 544 of (68, 2)."""
    try:
        points = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a readable landmark file; make it again with preprocess.py") from error
    if points.shape not in ((81, 2), (68, 2)):
        raise DataError(
            f"{path} holds {points.shape} numbers instead of 81 or 68 points; make it again with preprocess.py"
        )
    return np.rint(points).clip(0).astype("<u4").tobytes()


def _fill(pack: _Pack, root: Path, paths: list[str], form: Form) -> None:
    files, written, there, size, start = iter(paths), 0, 0, 0, perf_counter()
    with ThreadPoolExecutor() as threads:  # OpenCV encodes outside the interpreter's lock
        while batch := list(islice(files, _BATCH)):
            names = [key_of(root.name, path, form.keys) for path in batch]
            todo = [(name, root / path) for name, path, new in zip(names, batch, pack.missing(names)) if new]
            there += len(batch) - len(todo)
            values = list(threads.map(lambda item: encoded(item[1], form), todo))
            pack.put([(name, value) for (name, _), value in zip(todo, values)])
            written += len(todo)
            size += sum(map(len, values))
    if not written + there:
        raise DataError(f"{root} holds no frames; run preprocess.py first")
    seconds = max(perf_counter() - start, 1e-9)
    say(
        f"{written} entries written ({size / 2**20:.1f} MiB, {written / seconds:.0f} a second), {there} were there before"
    )


def _check(pack: _Pack, root: Path, paths: list[str], form: Form, everything: bool) -> None:
    """Every file must have its key, and what is decoded again must be what the file holds."""
    for start in range(0, len(paths), 10_000):
        part = paths[start : start + 10_000]
        gone = pack.missing([key_of(root.name, path, form.keys) for path in part])
        if any(gone):
            raise DataError(f"the database lacks {part[gone.index(True)]}; run to_lmdb.py again")
    step = 1 if everything else max(1, len(paths) // _SAMPLE)
    pictures, seconds = 0, 0.0
    for path in paths[::step]:
        value = pack.get(key_of(root.name, path, form.keys))
        assert value is not None
        if _is_landmarks(path):
            same = value == landmark_bytes(root / path)
        else:
            origin = _decoded(read_file(root / path), str(root / path), form.max_pixels)
            start_time = perf_counter()
            image = _decoded(value, f"the database's {path}", form.max_pixels)
            seconds, pictures = seconds + perf_counter() - start_time, pictures + 1
            same = image.shape[:2] == origin.shape[:2]
            if same and (form.codec != "jpeg" or _is_mask(path)):
                same = np.array_equal(_one_plane(image, origin), origin)
        if not same:
            raise DataError(f"the database holds something else than {root / path}; remove the database and pack again")
    rate = pictures / seconds if seconds else 0.0
    say(
        f"verified: {len(paths)} keys, {len(paths[::step])} entries decoded and compared; {rate:.0f} images a second "
        f"({form.codec})"
    )


def _one_plane(image: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """WebP knows no gray pictures: it returns three equal planes."""
    return image[..., 0] if image.ndim == 3 and origin.ndim == 2 else image
