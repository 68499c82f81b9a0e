"""The JSON index against what DeepfakeBench writes for the same small tree of nine datasets."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.errors import ConfigError, DataError
from preprocessing.rearrange import main
from preprocessing.run_rearrange import rearrange

GOLDEN = json.loads((Path(__file__).parent / "data" / "deepfakebench_indexes.json").read_text())
DATASETS = sorted(set(GOLDEN["indexes"]) - {"FF-DF", "FF-F2F", "FF-FS", "FF-NT"})


def plant(root: Path, tree: dict) -> None:
    """Make a tree of files: text, or an 8 x 8 picture where the content is None."""
    picture = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for path, text in tree.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture if text is None else text.encode())


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    plant(root, GOLDEN["tree"])
    return root


def ordered(value):
    """Sort lists of paths; the reference's own order is that of the file system."""
    if isinstance(value, dict):
        return {key: ordered(item) for key, item in value.items()}
    return sorted(value) if isinstance(value, list) else value


def moved(value, old: str, new: str):
    """Replace the beginning of every path."""
    if isinstance(value, dict):
        return {key: moved(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [new + item.removeprefix(old) for item in value]
    return value


def written(tree: Path, out: Path, dataset: str, **options) -> dict:
    report = rearrange(dataset, str(tree), str(out), **options)
    return {name: json.loads((out / f"{name}.json").read_text()) for name in report.indexes}


@pytest.mark.parametrize("dataset", DATASETS)
def test_faithful_index_is_the_references(tree, tmp_path, dataset):
    ours = written(tree, tmp_path, dataset, as_deepfakebench=True)
    expected = {dataset} | ({"FF-DF", "FF-F2F", "FF-FS", "FF-NT"} if dataset == "FaceForensics++" else set())
    assert set(ours) == expected
    for name, content in ours.items():
        assert ordered(moved(content, f"{tree}/", "./datasets/")) == GOLDEN["indexes"][name]


def videos(content: dict) -> dict[tuple, dict]:
    """Return (label, split, compression, name) → entry."""
    found = {}
    for labels in content.values():
        for label, splits in labels.items():
            for split, slot in splits.items():
                for key, value in slot.items():
                    levels = {"": {key: value}} if isinstance(value, dict) and "frames" in value else {key: value}
                    for compression, entries in levels.items():
                        for name, entry in entries.items() if isinstance(entries, dict) else ():
                            if isinstance(entry, dict) and "frames" in entry:
                                found[label, split, compression, name] = entry
    return found


@pytest.mark.parametrize("dataset", DATASETS)
def test_own_index_agrees_where_the_reference_is_right(tree, tmp_path, dataset):
    ours = videos(written(tree, tmp_path, dataset)[dataset])
    theirs = videos(moved(GOLDEN["indexes"][dataset], "./datasets/", ""))
    assert ours
    # Celeb-real's training videos, which the reference overwrites with YouTube-real's.
    lost = {key for key, entry in ours.items() if key[1] == "train" and "/Celeb-real/" in entry["frames"][0]}
    # DFDC's validation videos, which stand in the reference without their names.
    nameless = {key for key in ours if key[0].startswith("DFDC_") and key[1] == "val"}
    assert set(ours) - lost - nameless <= set(theirs), "a video in a split where the reference does not have it"
    for key in set(ours) - lost - nameless:
        entry = ours[key]
        assert entry["label"] == theirs[key]["label"]
        assert sorted(entry["frames"]) == sorted(theirs[key]["frames"])
        assert sorted(entry.get("masks", [])) == sorted(theirs[key].get("masks", []))
    tested = {(key[0], *key[2:]) for key in theirs if key[1] == "test"}
    assert {(key[0], *key[2:]) for key in ours if key[1] == "test"} == tested
    trained = {(key[0], *key[2:]) for key in ours if key[1] == "train"}
    assert bool(lost) == dataset.startswith("Celeb")
    assert not trained & tested
    # What left train is only what is tested.
    assert {(key[0], *key[2:]) for key in theirs if key[1] == "train"} - trained <= tested


def test_every_video_of_dfdc_validation_has_its_name(tree, tmp_path):
    content = written(tree, tmp_path, "DFDC")["DFDC"]["DFDC"]
    assert set(content["DFDC_Fake"]["val"]) == {"aalscayrfi"}
    assert set(content["DFDC_Real"]["val"]) == {"aayfryxljh"}


@pytest.mark.parametrize(
    ("dataset", "key", "people"),
    [
        ("FaceForensics++", ("FF-DF", "train", "c23", "071_054"), ("071", "054")),
        ("FaceForensics++", ("FF-real", "train", "c23", "071"), ("071", "071")),
        ("FaceShifter", ("FF-FH", "test", "c40", "953_974"), ("953", "974")),
        ("DeepFakeDetection", ("DFD_fake", "test", "c23", "01_02__hugging_happy__YVGY8LOK"), ("01", "02")),
        ("Celeb-DF-v2", ("CelebDFv2_fake", "train", "", "id0_id1_0000"), ("id0", "id1")),
        ("Celeb-DF-v2", ("CelebDFv2_real", "test", "", "00000"), (None, None)),
        ("DFDCP", ("DFDCP_FakeA", "test", "", "1001_1002_A"), ("1001", "1002")),
        ("DFDC", ("DFDC_Fake", "train", "", "owxbbpjpch"), ("vudstovrck", None)),
        ("DeeperForensics-1.0", ("DF_fake", "test", "", "002_W101"), ("FaceForensics++:002", "W101")),
        ("DeeperForensics-1.0", ("DF_real", "test", "", "camera_front_light_up_exp_angry"), ("M004", "M004")),
        ("UADFV", ("UADFV_Fake", "test", "", "0001_fake"), ("0001", None)),
    ],
)
def test_identities(tree, tmp_path, dataset, key, people):
    entry = videos(written(tree, tmp_path, dataset)[dataset])[key]
    assert (entry.get("target_id"), entry.get("source_id")) == people


def test_compressed_forms_hold_their_compression_only(tree, tmp_path):
    files = written(tree, tmp_path, "FaceForensics++")
    assert {"FaceForensics++_c40", "FF-DF_c40", "FF-NT_c40"} <= set(files)
    assert set(files["FF-DF_c40"]) == {"FF-DF"}
    assert {key[2] for key in videos(files["FF-DF_c40"])} == {"c40"}
    assert {key[0] for key in videos(files["FF-DF_c40"])} == {"FF-real", "FF-DF"}


def test_command_line_from_the_datasets_own_folder(tree, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tree / "UADFV")
    assert main(["--dataset_name", "UADFV", "--dataset_root_path", ".", "--output_file_path", str(tmp_path)]) == 0
    frames = videos(json.loads((tmp_path / "UADFV.json").read_text()))["UADFV_Real", "test", "", "0001"]["frames"]
    assert frames == ["UADFV/real/frames/0001/000.png", "UADFV/real/frames/0001/001.png"]
    assert str(tree / "UADFV") in capsys.readouterr().out


def test_a_named_compression_leaves_out_the_other(tree, tmp_path):
    found = videos(written(tree, tmp_path, "FaceForensics++", comp="c40")["FaceForensics++"])
    assert {key[2] for key in found} == {"c40"}


def test_another_dataset_of_the_same_shape_keeps_the_fields_names_free(tmp_path):
    tree = {path.replace("FaceForensics++", "Mine", 1): text for path, text in GOLDEN["tree"].items()}
    plant(tmp_path, {path: text for path, text in tree.items() if path.startswith("Mine/")})
    report = rearrange("Mine", str(tmp_path), str(tmp_path / "json"), layout="FaceForensics++")
    assert set(report.indexes) == {"Mine"}
    entry = videos(report.indexes["Mine"])["FF-DF", "val", "c23", "720_672"]
    assert entry["frames"][0] == "Mine/manipulated_sequences/Deepfakes/c23/frames/720_672/000.png"
    assert entry["target_id"] == "720"


def test_what_is_missing_is_named(tmp_path):
    plant(tmp_path, {path: text for path, text in GOLDEN["tree"].items() if not path.endswith("++/val.json")})
    out = str(tmp_path / "json")
    with pytest.raises(DataError, match=r"val\.json"):
        rearrange("FaceForensics++", str(tmp_path), out)
    (tmp_path / "Celeb-DF-v2" / "List_of_testing_videos.txt").unlink()
    with pytest.raises(DataError, match="List_of_testing_videos"):
        rearrange("Celeb-DF-v2", str(tmp_path), out)
    (tmp_path / "UADFV/real/frames/0002").mkdir()
    assert any("0002" in note for note in rearrange("UADFV", str(tmp_path), out).notes)
    with pytest.raises(DataError, match="UADFV"):
        rearrange("UADFV", str(tmp_path / "DFDC"), out)
    with pytest.raises(ConfigError, match="FFF"):
        rearrange("FFF", str(tmp_path), out)
    with pytest.raises(ConfigError, match="end_to_end_level_5"):
        rearrange("DeeperForensics-1.0", str(tmp_path), out, perturbation="blur")


def test_an_unknown_manipulation_is_said(tree, tmp_path, capsys):
    plant(tmp_path, {path: text for path, text in GOLDEN["tree"].items() if path.startswith("FaceForensics++")})
    plant(tmp_path, {"FaceForensics++/manipulated_sequences/Newest/c23/frames/071_054/000.png": None})
    rearrange("FaceForensics++", str(tmp_path), str(tmp_path / "json"))
    assert "manipulated_sequences/Newest" in capsys.readouterr().out


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    names = [f"{number:03d}.png" for number in (998, 999, 1000, 1010, 0)]
    plant(tmp_path, {f"UADFV/real/frames/0001/{name}": None for name in names})
    entry = videos(written(tmp_path, tmp_path / "json", "UADFV")["UADFV"])["UADFV_Real", "test", "", "0001"]
    assert [Path(frame).stem for frame in entry["frames"]] == ["000", "998", "999", "1000", "1010"]


def test_two_folders_with_a_video_of_one_name_keep_both(tmp_path):
    tree = {path: text for path, text in GOLDEN["tree"].items() if path.startswith("DeeperForensics")}
    plant(tmp_path, tree)
    plant(tmp_path, {path.replace("/M004/", "/W009/"): text for path, text in tree.items()})
    found = videos(written(tmp_path, tmp_path / "json", "DeeperForensics-1.0")["DeeperForensics-1.0"])
    folders = {entry["frames"][0].split("/")[2] for key, entry in found.items() if key[0] == "DF_real"}
    assert folders == {"M004", "W009"}


@pytest.mark.parametrize("name", ["FF-DF_c40", "FaceForensics++_c40", "FF-NT", "Celeb-DF-v2"])
@pytest.mark.parametrize("faithful", [False, True])
def test_the_loaders_index_reads_them(tree, tmp_path, name, faithful):
    from types import SimpleNamespace

    from training.dataset.index.selection import open_dataset

    rearrange("Celeb-DF-v2", str(tree), str(tmp_path), as_deepfakebench=faithful)
    rearrange("FaceForensics++", str(tree), str(tmp_path), as_deepfakebench=faithful)
    table, level = open_dataset(SimpleNamespace(dataset_json_folder=str(tmp_path)), name)
    assert len(table)
    assert level == ("c40" if name.endswith("_c40") else None)
