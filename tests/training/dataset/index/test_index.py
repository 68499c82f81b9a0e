"""The index: what it reads from JSON, what it refuses, its cache, and its identities."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers.pack import write_pack

from common.datasets import identities
from common.errors import DataError
from common.io import read_json
from training.config.schema import Config
from training.dataset.index import table_cache
from training.dataset.index.json_stream import leaves
from training.dataset.index.paths import inside, sibling
from training.dataset.index.selection import load_index
from training.dataset.index.table import build_table

LABELS = {
    "FF-real": 0,
    "FF-DF": 1,
    "FF-NT": 1,
    "CelebDFv2_real": 0,
    "CelebDFv2_fake": 1,
    "DFDC_Real": 0,
    "DFDC_Fake": 1,
}


def config(folder: Path, **keys) -> Config:
    return Config.model_validate(
        {
            "model_name": "any",
            "label_dict": LABELS,
            "frame_num": {"train": 2, "test": 2},
            "dataset_json_folder": str(folder),
            "rgb_dir": str(folder / "rgb"),
            **keys,
        }
    )


def write(folder: Path, dataset: str, content) -> Path:
    path = folder / f"{dataset}.json"
    path.write_text(content if isinstance(content, str) else json.dumps({dataset: content}))
    return path


def entry(video: str, frames=(0, 1), label="FF-real", **more) -> dict:
    return {"label": label, "frames": [f"./datasets/x/frames/{video}/{n:03d}.png" for n in frames], **more}


@pytest.fixture
def two_datasets(tmp_path):
    """FaceForensics++ with both compressions and frames out of order, Celeb-DF-v2 without compressions."""
    ffpp = {
        "FF-real": {"train": {level: {v: entry(v, (7, 14, 0)) for v in ("000", "003")} for level in ("c23", "c40")}},
        "FF-DF": {"train": {"c23": {"000_003": entry("000_003", (0, 7), "FF-DF")}, "c40": {}}},
    }
    celeb = {
        "CelebDFv2_real": {"train": {"id0_0000": entry("id0_0000", label="CelebDFv2_real")}, "test": {}},
        "CelebDFv2_fake": {"train": {"id0_id1_0000": entry("id0_id1_0000", label="CelebDFv2_fake")}},
    }
    write(tmp_path, "FaceForensics++", ffpp)
    write(tmp_path, "Celeb-DF-v2", celeb)
    return tmp_path


def test_several_datasets_with_and_without_compression(two_datasets):
    index = load_index(config(two_datasets), ["FaceForensics++", "Celeb-DF-v2"], "train")
    assert index.video_ids() == [
        "FaceForensics++/FF-real/c23/000",
        "FaceForensics++/FF-real/c23/003",
        "FaceForensics++/FF-DF/c23/000_003",
        "Celeb-DF-v2/CelebDFv2_real/id0_0000",
        "Celeb-DF-v2/CelebDFv2_fake/id0_id1_0000",
    ]
    assert index.label.tolist() == [0, 0, 1, 0, 1]
    assert index.method.tolist() == [0, 0, 2, 0, 1]
    assert index.domain.tolist() == [0, 0, 0, 1, 1]
    assert index.info.manipulations == {"CelebDFv2_real": 0, "FF-real": 0, "CelebDFv2_fake": 1, "FF-DF": 2}
    assert index.info.domains == {"FaceForensics++": 0, "Celeb-DF-v2": 1}
    people = {number: name for name, number in index.info.identities.items()} | {-1: None}
    assert [people[i] for i in index.target.tolist()] == [
        "FaceForensics++:000",
        "FaceForensics++:003",
        "FaceForensics++:000",
        "Celeb-DF:id0",
        "Celeb-DF:id0",
    ]
    assert people[index.source[2]] == "FaceForensics++:003"
    assert people[index.source[4]] == "Celeb-DF:id1"
    assert index.info.counts == {"real": 6, "fake": 4, "videos_real": 3, "videos_fake": 2}


def test_frames_come_in_the_order_of_their_numbers(two_datasets):
    index = load_index(config(two_datasets), ["FaceForensics++"], "train")
    assert [index.frame(0, i) for i in range(3)] == [(f"x/frames/000/{n:03d}.png", n) for n in (0, 7, 14)]


def test_a_suffix_chooses_the_compression(two_datasets):
    index = load_index(config(two_datasets), ["FaceForensics++_c40"], "train")
    assert index.video_ids() == ["FaceForensics++_c40/FF-real/c40/000", "FaceForensics++_c40/FF-real/c40/003"]
    both = load_index(config(two_datasets), ["FaceForensics++"], "train")
    # The same video in another compression, under another name, is the same video.
    assert both.videos_overlapping(index) == ["FaceForensics++/FF-real/c23/000", "FaceForensics++/FF-real/c23/003"]
    assert len(index.videos_overlapping(load_index(config(two_datasets), ["Celeb-DF-v2"], "train"))) == 0


def test_the_index_states_identities_and_masks_before_names_do(tmp_path):
    fake = entry("000_003", label="FF-DF", target_id="anna", masks=["a\\masks_c23\\000_003\\000.jpg"])
    write(tmp_path, "FF-DF", {"FF-DF": {"train": {"000_003": fake}}, "FF-real": {"train": {"000": entry("000")}}})
    index = load_index(config(tmp_path), ["FF-DF"], "train")
    assert index.info.identities.keys() == {"FaceForensics++:anna", "FaceForensics++:003", "FaceForensics++:000"}
    assert index.info.identities["FaceForensics++:anna"] == index.target[0]
    assert index.mask(0, 0) == "a/masks_c23/000_003/000.jpg"
    assert index.mask(0, 1) == "x/masks/000_003/001.png"  # not listed: beside the frames
    assert index.mask(1, 0) is None
    assert index.landmark(1, 1) == "x/landmarks/000/001.npy"


def test_people_and_manipulations_of_test_sets_keep_the_numbers_of_training(two_datasets):
    train = load_index(config(two_datasets), ["FaceForensics++"], "train")
    test = load_index(config(two_datasets), ["Celeb-DF-v2"], "train", train.info)
    assert test.method.tolist() == [0, -1]
    assert test.domain.tolist() == [-1, -1]
    assert test.target.min() >= len(train.info.identities)
    assert {**test.info.identities, **train.info.identities} == test.info.identities


def test_leaving_videos_out_keeps_all_columns_together(two_datasets):
    index = load_index(config(two_datasets), ["FaceForensics++", "Celeb-DF-v2"], "train")
    index.keep(np.array([False, True, True, False, True]))
    assert index.video_ids()[0] == "FaceForensics++/FF-real/c23/003"
    assert index.label.tolist() == [0, 1, 1]
    assert index.frames.tolist() == [3, 2, 2]
    assert index.info.counts == {"real": 2, "fake": 4, "videos_real": 1, "videos_fake": 2}
    assert index.label_counts() == (1, 2)


@pytest.mark.parametrize(
    ("dataset", "video", "folder", "wanted"),
    [
        ("FaceForensics++", "033_097", "", ("033", "097")),
        ("FF-NT_c40", "033", "", ("033", "033")),
        ("FaceShifter", "033_097", "", ("033", "097")),
        ("FaceForensics++", "someone", "", (None, None)),
        ("Celeb-DF-v1", "id1_id12_0003", "", ("id1", "id12")),
        ("Celeb-DF-v2", "id1_0003", "", ("id1", "id1")),
        ("Celeb-DF-v2", "00123", "", (None, None)),
        ("DeepFakeDetection", "01_02__hugging_happy__YVGY8LOK", "", ("01", "02")),
        ("DeepFakeDetection", "01__hugging_happy", "", ("01", "01")),
        ("DeeperForensics-1.0", "033_W101", "", ("FaceForensics++:033", "W101")),
        ("DeeperForensics-1.0", "camera_up", "./datasets/D/source_videos/M004/frames/camera_up", ("M004", "M004")),
        ("DeeperForensics-1.0", "camera_up", "", (None, None)),
        ("DFDCP", "1001_1002_A", "", ("1001", "1002")),
        ("DFDCP", "1001_A", "", ("1001", "1001")),
        ("UADFV", "0001_fake", "", ("0001", None)),
        ("UADFV", "0001", "", ("0001", "0001")),
        ("DFDC", "aalscayrfi", "", (None, None)),
        ("MyOwn", "033_097", "", (None, None)),
    ],
)
def test_identities_by_name(dataset, video, folder, wanted):
    assert identities(dataset, video, folder) == wanted


# --- what public indexes get wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_a_nameless_video_is_named_in_a_warning_and_left_out(tmp_path, caplog, first):
    nameless, named = entry("1", label="DFDC_Real"), {"2": entry("2", label="DFDC_Real")}
    val = {**nameless, **named} if first else {**named, **nameless}
    fakes = {"3": entry("3", label="DFDC_Fake")}
    write(tmp_path, "DFDC", {"DFDC_Real": {"val": val, "test": named}, "DFDC_Fake": {"val": fakes, "test": {}}})
    index = load_index(config(tmp_path), ["DFDC"], "val")
    assert sorted(index.video_ids()) == ["DFDC/DFDC_Fake/3", "DFDC/DFDC_Real/2"]
    assert "DFDC_Real/val holds a video without a name" in caplog.text


def test_the_labels_of_videos_count_not_those_of_their_group(tmp_path):
    """As the field's reader does it."""
    write(tmp_path, "FF-DF", {"FF-DF": {"train": {"1": entry("1", label="FF-real"), "2": entry("2", label="FF-DF")}}})
    assert load_index(config(tmp_path), ["FF-DF"], "train").label.tolist() == [0, 1]


def test_videos_without_frames_are_left_out_with_a_warning(tmp_path, caplog):
    videos = {str(i): {"label": "FF-real", "frames": []} for i in range(30)} | {"x": entry("x")}
    write(tmp_path, "FF-DF", {"FF-real": {"train": videos}})
    assert len(load_index(config(tmp_path), ["FF-DF"], "train")) == 1
    assert "FF-real/train/0 has no frames" in caplog.text
    assert "20 more faults" in caplog.text


# --- mistakes, each one sentence ---------------------------------------------------------------------------------------


def error_of(folder: Path, dataset="FF-DF", split="train", **keys) -> str:
    with pytest.raises(DataError) as caught:
        load_index(config(folder, **keys), [dataset], split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_index_names_file_and_line(two_datasets, share):
    path = two_datasets / "FaceForensics++.json"
    path.write_text(path.read_text()[: int(len(path.read_text()) * share)])
    message = error_of(two_datasets, "FaceForensics++")
    assert "FaceForensics++.json is not valid JSON (line 1" in message
    assert "truncated" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not valid JSON"),
        ("[1, 2]", "not what an index holds"),
        ('{"DFDC": {"a": {"train": {"v": {"frames": ["x/frames/v/0.png"]}}}}}', "not an index of FF-DF but of DFDC"),
        ('{"FF-DF": {}}', "no video with frames"),
        ('{"FF-DF": {"FF-real": {"train": {}}}}', "no video with frames"),
        ('{"FF-DF": {"FF-real": {"train": {"c23": {"1": {"frames": 3}}}}}}', "must be a list of paths"),
        ('{"FF-DF": {"FF-real": {"train": {"c23": {"1": {"frames": [3]}}}}}}', "must be a list of paths"),
        ('{"FF-DF": {"FF-real": {"train": {"c23": {"1": {"label": "FF-real"}}}}}}', "has no `frames`"),
        ('{"FF-DF": {"frames": ["a/frames/v/0.png"]}}', "not what an index holds"),
    ],
)
def test_files_that_are_no_index(tmp_path, content, words):
    write(tmp_path, "FF-DF", content)
    assert words in error_of(tmp_path)


def test_missing_things_are_named_with_what_there_is(two_datasets):
    message = error_of(two_datasets, "Celeb-DF-v3")
    assert "did you mean Celeb-DF-v2?" in message
    assert "Celeb-DF-v2, FaceForensics++" in message
    assert f"there is no folder {two_datasets / 'nowhere'}" in error_of(two_datasets / "nowhere", "DFDC")
    (two_datasets / "bare").mkdir()
    assert "no index is there" in error_of(two_datasets / "bare", "DFDC")
    assert "has no val split in its index, only train" in error_of(two_datasets, "FaceForensics++", "val")
    assert "no compression raw in its train split, only c23, c40" in error_of(
        two_datasets, "FaceForensics++", compression="raw"
    )
    message = error_of(two_datasets, "FaceForensics++", label_dict={"FF-real": 0})
    assert "`FF-DF` of the dataset FaceForensics++" in message
    assert "`FF-DF: 1`" in message


@pytest.mark.parametrize(
    "path",
    ["../secret/000.png", "FaceForensics++/../../x.png", "/etc/000.png", "..\\secret\\000.png", "C:\\x\\000.png"],
)
def test_paths_cannot_leave_their_root(tmp_path, path):
    write(tmp_path, "FF-DF", {"FF-real": {"train": {"1": {"label": "FF-real", "frames": [path]}}}})
    message = error_of(tmp_path)
    assert "leaves rgb_dir" in message or "outside rgb_dir" in message


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("./datasets/F/frames/1/0.png", "./datasets/rgb"),
        ("datasets/rgb/F/frames/1/0.png", "./datasets/rgb"),
        (".\\datasets\\F\\frames\\1\\0.png", "/data"),
        ("/data/F/frames/1/0.png", "/data"),
        ("/data/F/x/../frames/1/0.png", "/data/"),
        ("my/root/F/frames/1/0.png", "my/root"),
        ("F/frames/1/0.png", "my/root"),
    ],
)
def test_all_ways_of_writing_a_path(path, root):
    assert inside(path, root) == "F/frames/1/0.png"


def test_siblings_replace_the_last_folder_named_frames():
    assert sibling("frames/a/frames/v/000.png", "masks", ".png") == "frames/a/masks/v/000.png"
    with pytest.raises(DataError, match="does not lie below a folder named `frames`"):
        sibling("a/images/v/000.png", "masks", ".png")


# --- reading and caching -----------------------------------------------------------------------------------------------


def flatten(value, place=()):
    """Innermost objects by plain recursion, as an independent statement of what `leaves` yields."""
    if not isinstance(value, dict) or not any(isinstance(v, dict) for v in value.values()):
        return [(place, value)]
    found = []
    for key, item in value.items():
        if isinstance(item, dict):
            found += flatten(item, (*place, key))
    plain = {k: v for k, v in value.items() if not isinstance(v, dict)}
    return found + ([(place, plain)] if plain else [])


def test_the_streaming_reader_sees_what_json_sees():
    rng = np.random.default_rng(0)

    def value(depth):
        if depth and rng.random() < 0.7:
            # Objects come first: an object whose first value is plain is yielded whole.
            inner = {f"k{i}": value(depth - 1) for i in range(rng.integers(1, 4))}
            return dict(sorted(inner.items(), key=lambda item: not isinstance(item[1], dict)))
        return [None, 1.5, 'tex\\t "}{', [1, "a"], {}, True][rng.integers(6)]

    for i in range(200):
        content = {"top": value(4), "é": value(3)}
        content = dict(sorted(content.items(), key=lambda item: not isinstance(item[1], dict)))
        text = json.dumps(content, indent=[None, 1][i % 2], ensure_ascii=bool(i % 3))
        assert sorted(map(repr, leaves(text))) == sorted(map(repr, flatten(content)))
        with pytest.raises(json.JSONDecodeError):
            list(leaves(text[:-1]))
        with pytest.raises(json.JSONDecodeError):
            list(leaves(text + "]"))


@pytest.fixture
def fresh():
    """No table in memory from other tests, nor left for them."""
    table_cache._load.cache_clear()
    yield table_cache._load.cache_clear
    table_cache._load.cache_clear()


def contents(table) -> dict:
    return {
        name: [part.tolist() for part in (value.blob, value.offsets)] if hasattr(value, "blob") else list(value)
        for name, value in vars(table).items()
        if name != "origin"
    }


def test_the_cache_holds_what_the_json_says(tmp_path, fresh):
    write_pack(tmp_path)
    path = tmp_path / "json" / "FaceForensics++.json"
    parsed = build_table(path.read_text(), "FaceForensics++", str(path))
    table_cache.load_table(path, "FaceForensics++")
    fresh()
    cached = table_cache.load_table(path, "FaceForensics++")
    assert isinstance(cached, table_cache.CachedTable)
    assert contents(cached) == contents(parsed)
    assert cached.name[2] == "100"
    assert not cached.number.flags.owndata


def test_a_changed_index_makes_a_new_cache(tmp_path, fresh):
    write_pack(tmp_path, frames=4)
    path = tmp_path / "json" / "FaceForensics++.json"
    assert np.diff(table_cache.load_table(path, "FaceForensics++").first)[0] == 4
    text = path.read_text()
    os.utime(path, ns=(1, 1))
    write_pack(tmp_path, frames=5)
    assert np.diff(table_cache.load_table(path, "FaceForensics++").first)[0] == 5
    # Same size, another time: not trusted either.
    path.write_text(text.replace("/000.png", "/001.png"))
    os.utime(path, ns=(5, 5))
    assert table_cache.load_table(path, "FaceForensics++").file[0] == "001.png"


@pytest.mark.parametrize("damage", [b"", b"CLIPDFIX\x01", b"nonsense" * 99, "half"])
def test_a_damaged_cache_is_made_again(tmp_path, fresh, damage):
    write_pack(tmp_path)
    path = tmp_path / "json" / "FaceForensics++.json"
    want = contents(table_cache.load_table(path, "FaceForensics++"))
    cache = table_cache.cache_path(path)
    data = cache.read_bytes()
    cache.unlink()  # a new file: the mapping of the old one must stay whole
    cache.write_bytes(data[: len(data) // 2] if damage == "half" else damage)
    fresh()
    assert contents(table_cache.load_table(path, "FaceForensics++")) == want
    assert cache.read_bytes() == data


def test_without_a_place_for_the_cache_it_works_and_says_so_once(tmp_path, fresh, monkeypatch, caplog):
    from common.errors import ProjectError

    def refuse(path):
        raise ProjectError(f"cannot write {path}: Read-only file system; choose a folder that can be written")

    monkeypatch.setattr(table_cache, "atomic_path", refuse)
    write_pack(tmp_path)
    settings = config(tmp_path / "json", rgb_dir=str(tmp_path / "rgb"))
    for _ in range(3):
        assert len(load_index(settings, ["FaceForensics++"], "train")) == 7
    assert caplog.text.count("Read-only file system") == 1
    assert not list((tmp_path / "json").glob("*.idx"))


def test_a_cached_index_travels_as_a_file_name(tmp_path, fresh):
    entries = {f"{i:03d}": entry(f"{i:03d}", range(200)) for i in range(100)}
    write(tmp_path, "FF-DF", {"FF-real": {"train": entries}})
    index = load_index(config(tmp_path), ["FF-DF"], "train")
    sent = pickle.dumps(index)
    assert len(sent) < 12_000  # 20,000 frames would be more
    back = pickle.loads(sent)
    assert back.video_ids() == index.video_ids()
    assert back.frame(99, 199) == index.frame(99, 199) == ("x/frames/099/199.png", 199)
    assert not back._tables[0].file.blob.flags.owndata


def test_memory_per_frame_is_a_few_bytes(tmp_path, fresh):
    entries = {f"{i:03d}": entry(f"{i:03d}", range(300)) for i in range(100)}
    path = write(tmp_path, "FF-DF", {"FF-real": {"train": entries}})
    table_cache.load_table(path, "FF-DF")
    assert table_cache.cache_path(path).stat().st_size < 24 * 30_000


# --- files of other machines, and damaged ones -------------------------------------------------------------------------


def one_video(*frames: str) -> dict:
    return {"FF-real": {"train": {"1": {"label": "FF-real", "frames": list(frames)}}}}


@pytest.mark.parametrize(
    ("foreign", "prefix", "here"),
    [
        ("/cluster/home/rgb/F/frames/1/0.png", "/cluster/home/rgb", ""),
        ("/cluster/home/rgb/F/frames/1/0.png", "/cluster/home/rgb/", "{root}"),
        ("/cluster/home/rgb/F/frames/1/0.png", "/cluster", "../nowhere"),
        ("D:\\data\\rgb\\F\\frames\\1\\0.png", "D:\\data\\rgb", "{root}"),
        ("D:\\data\\rgb\\F\\frames\\1\\0.png", "d:/Data/rgb/", ""),
        ("\\\\server\\share\\F\\frames\\1\\0.png", "\\\\server\\share", ""),
        ("../other/F/frames/1/0.png", "../other", ""),
    ],
)
def test_paths_of_another_machine_are_mapped(tmp_path, foreign, prefix, here):
    write(tmp_path, "FF-DF", one_video(foreign))
    rgb = str(tmp_path / "rgb")
    keys = {"path_prefix": {prefix: here.format(root=rgb), "/cluster/home/rgb": "", "/clust": "/wrong"}}
    index = load_index(config(tmp_path, rgb_dir=rgb, **keys), ["FF-DF"], "train")
    assert index.frame(0, 0) == ("F/frames/1/0.png", 0)


@pytest.mark.parametrize(
    "foreign",
    [
        "/cluster/home/me/FaceForensics++/orig/c23/frames/1/0.png",
        "D:\\data\\rgb\\F\\orig\\frames\\1\\0.png",
        "/mnt/a/b/c/F/frames/1/0.png",
    ],
)
def test_an_unmapped_path_is_answered_with_the_line_that_maps_it(tmp_path, foreign):
    (tmp_path / "rgb/F").mkdir(parents=True)
    write(tmp_path, "FF-DF", one_video(foreign))
    message = error_of(tmp_path)
    line = message[message.index("path_prefix: ") + len("path_prefix: ") : message.index("}`") + 1]
    index = load_index(config(tmp_path, path_prefix=json.loads(line)), ["FF-DF"], "train")
    assert index.frame(0, 0)[0].endswith("frames/1/0.png")
    assert index.frame(0, 0)[0].startswith("F")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("dataset", ["FF-DF", "FF-DF_c40"])
def test_a_byte_order_mark_is_no_damage(tmp_path, encoding, dataset):
    content = {"FF-DF": {"FF-real": {"train": {level: {"1": entry("1")} for level in ("c23", "c40")}}}}
    (tmp_path / f"{dataset}.json").write_bytes(json.dumps(content).encode(encoding))
    assert len(load_index(config(tmp_path), [dataset], "train")) == 1
    assert read_json(tmp_path / f"{dataset}.json") == content


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["1700000000040", "1700000000000"], [1700000000000, 1700000000040]),
        (["3", "20231125123456789012345"], [0, 1]),
        (["frame_9223372036854775807"], [9223372036854775807]),
        (["1" * 5000, "2"], [0, 2]),
    ],
)
def test_frame_numbers_of_any_size_are_read(tmp_path, names, numbers):
    write(tmp_path, "FF-DF", one_video(*(f"F/frames/1/{name}.png" for name in names)))
    for _ in range(2):  # from the JSON and from its cache
        table_cache._load.cache_clear()
        index = load_index(config(tmp_path), ["FF-DF"], "train")
        assert [index.frame(0, i)[1] for i in range(len(numbers))] == numbers


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 100_000,
        "[" * 100_000,
        '{"FF-DF": {"FF-real": {"train": {"1": {"frames": ' + "[" * 100_000,
        '{"FF-DF": {"FF-real": {"train": {"1": {"frames": ["a/\\u0000/0.png"]}}}}}',
        '{"FF-DF": {"FF-real": {"train": {"1": {"frames": ["a/\\udc80/0.png"]}}}}}',
        '{"FF-DF": {"FF-real": {"train": {"1\\ud800": {"frames": ["a/frames/0.png"]}}}}}',
        '{"FF-DF": {"FF-real": {"train": {"1": {"label": "\\ud800", "frames": ["a/frames/0.png"]}}}}}',
        '{"FF-DF": {"FF-real": {"train": {"1": {"masks": ["a\\u0000"], "frames": ["a/frames/0.png"]}}}}}',
        '{"FF-DF": {"FF-real": {"train": {"1": {"target_id": "\\ud800", "frames": ["a/frames/0.png"]}}}}}',
        '{"FF-DF": {"FF-real": {"train": {"1": {"x": %s, "frames": ["a/frames/0.png"]}}}}}' % ("9" * 5000),
    ],
)
def test_damage_of_any_kind_is_one_sentence(tmp_path, text):
    write(tmp_path, "FF-DF", text)
    assert "FF-DF.json" in error_of(tmp_path)
    (tmp_path / "note.json").write_text(text if text.startswith(("[", '{"a"')) else "[" * 100_000)
    with pytest.raises(DataError, match=r"note\.json is nested too deep"):
        read_json(tmp_path / "note.json")


@pytest.mark.parametrize("link", ["F", "F/frames", "F/frames/1"])
def test_a_linked_folder_that_leads_out_is_met_when_the_index_is_loaded(tmp_path, link):
    (tmp_path / "secret/frames/1").mkdir(parents=True)
    place = tmp_path / "rgb" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "secret" / link[2:])
    write(tmp_path, "FF-DF", one_video("F/frames/1/0.png"))
    assert f"{place} is a link that leads out of rgb_dir" in error_of(tmp_path)
    allowed = config(tmp_path, data={"roots": [str(tmp_path / "secret")]})
    assert load_index(allowed, ["FF-DF"], "train").frame(0, 0)[0] == "F/frames/1/0.png"
    assert len(load_index(config(tmp_path, lmdb=True), ["FF-DF"], "train")) == 1  # no file is read there


@pytest.mark.parametrize(("asked", "file", "key"), [
    ("FFIW", "FFIW-10K", "FFIW-10K"), ("FFIW-10K", "FFIW", "FFIW"), ("FFIW", "FFIW", "FFIW-10K"), ("FFIW", "FFIW", "FFIW"),
])  # fmt: skip
def test_a_dataset_is_found_under_each_of_its_names(tmp_path, asked, file, key):
    groups = {"FFIW_Real": "ab", "FFIW_Fake": "cd"}
    content = {label: {"test": {v: entry(v, label=label) for v in videos}} for label, videos in groups.items()}
    write(tmp_path, file, json.dumps({key: content}))
    index = load_index(config(tmp_path, label_dict={"FFIW_Real": 0, "FFIW_Fake": 1}), [asked], "test")
    assert index.label_counts() == (2, 2)
    with pytest.raises(DataError, match="there is no index"):
        load_index(config(tmp_path), ["Other"], "test")
