"""Each layout on a small tree as its dataset's authors ship it."""

from pathlib import Path

import pytest

from common.datasets import same_video_key
from common.errors import ConfigError, DataError
from preprocessing.layouts import available_layouts, find_layout
from preprocessing.options import choose, dataset_folder, section
from preprocessing.run_rearrange import rearrange


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def found(root: Path, dataset: str, layout: str | None = None, **options) -> dict[str, tuple]:
    """Return source path → (label, name, mask)."""
    rules = find_layout(dataset, layout)
    return {
        video.path: (group.label, video.name, video.mask)
        for group in rules.groups(root, dataset, **options)
        for video in rules.sources(root, group)
    }


def test_every_dataset_has_a_layout():
    asked = {"FaceForensics++", "FaceShifter", "DeepFakeDetection", "Celeb-DF-v1", "Celeb-DF-v2", "DFDCP", "DFDC"}
    asked |= {"DeeperForensics-1.0", "UADFV", "FFIW-10K", "DSv1", "DF40", "custom"}
    assert asked <= set(available_layouts())


def test_faceforensics(tmp_path):
    fakes = "manipulated_sequences/Deepfakes"
    touch(
        tmp_path, "original_sequences/youtube/raw/videos/071.mp4", "original_sequences/actors/raw/videos/01__walk.mp4"
    )
    touch(tmp_path, f"{fakes}/c40/videos/071_054.mp4", f"{fakes}/masks/videos/071_054.mp4")
    touch(tmp_path, "manipulated_sequences/FaceShifter/c23/videos/071_054.mp4")
    touch(tmp_path, "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__walk__ABC.mp4")
    assert found(tmp_path, "FaceForensics++") == {
        "original_sequences/youtube/raw/videos/071.mp4": ("FF-real", "071", None),
        f"{fakes}/c40/videos/071_054.mp4": ("FF-DF", "071_054", f"{fakes}/masks/videos/071_054.mp4"),
    }
    assert {label for label, *_ in found(tmp_path, "FaceShifter").values()} == {"FF-real", "FF-FH"}
    assert {label for label, *_ in found(tmp_path, "DeepFakeDetection").values()} == {"DFD_real", "DFD_fake"}


def test_celeb_df_with_and_without_videos_folders(tmp_path):
    touch(tmp_path, "Celeb-real/id0_0000.mp4", "YouTube-real/videos/00001.mp4", "Celeb-synthesis/id0_id1_0000.mp4")
    labels = {name: label for label, name, _ in found(tmp_path, "Celeb-DF-v1").values()}
    assert labels == {"id0_0000": "CelebDFv1_real", "00001": "CelebDFv1_real", "id0_id1_0000": "CelebDFv1_fake"}


def test_dfdcp(tmp_path):
    touch(
        tmp_path, "original_videos/1001/1001_A.mp4", "method_A/1001/1001_1002/1001_1002_A.mp4", "method_B/3/3_4_B.mp4"
    )
    assert {name: label for label, name, _ in found(tmp_path, "DFDCP").values()} == {
        "1001_A": "DFDCP_Real",
        "1001_1002_A": "DFDCP_FakeA",
        "3_4_B": "DFDCP_FakeB",
    }


def test_dfdc(tmp_path):
    touch(tmp_path, "train/dfdc_train_part_0/a.mp4", "train/dfdc_train_part_10/b.mp4", "test/c.mp4")
    assert list(found(tmp_path, "DFDC")) == [
        "train/dfdc_train_part_0/a.mp4",
        "train/dfdc_train_part_10/b.mp4",
        "test/c.mp4",
    ]


def test_dfdcs_own_validation_set_validates(tmp_path):
    root = tmp_path / "DFDC"
    touch(root, "validation/frames/v/000.png", "test/frames/t/000.png")
    (root / "validation/labels.csv").write_text("filename,label\nv.mp4,0\n")
    (root / "test/labels.csv").write_text("filename,label\nt.mp4,1\n")
    index = rearrange("DFDC", str(tmp_path), str(tmp_path / "json")).indexes["DFDC"]["DFDC"]
    assert set(index["DFDC_Real"]["val"]) == {"v"}
    assert index["DFDC_Fake"]["val"] == {}
    (root / "test/labels.csv").unlink()
    with pytest.raises(DataError, match=r"labels\.csv"):
        rearrange("DFDC", str(tmp_path), str(tmp_path / "json"))


def test_deeperforensics(tmp_path):
    touch(tmp_path, "source_videos/M004/light/angry/M004_angry.mp4", "manipulated_videos/end_to_end/001_M004.mp4")
    touch(tmp_path, "manipulated_videos/reenact_postprocess/001_M004.mp4")
    assert set(found(tmp_path, "DeeperForensics-1.0")) == {
        "source_videos/M004/light/angry/M004_angry.mp4",
        "manipulated_videos/end_to_end/001_M004.mp4",
    }
    assert len(found(tmp_path, "DeeperForensics-1.0", perturbation="all")) == 3
    with pytest.raises(DataError, match="end_to_end, reenact_postprocess"):
        found(tmp_path, "DeeperForensics-1.0", perturbation="end_to_end_level_3")


def test_deeperforensics_recordings_follow_their_actor(tmp_path):
    root = tmp_path / "DeeperForensics-1.0"
    for actor in ("M001", "M002", "M003"):
        touch(root, f"source_videos/{actor}/frames/{actor}_calm/000.png")
    for fake in ("001_M001", "002_M002", "003_M002"):
        touch(root, f"manipulated_videos/end_to_end/frames/{fake}/000.png")
    touch(root, "lists/splits/val.txt")
    (root / "lists/splits/train.txt").write_text("001_M001.mp4\n002_M002.mp4\n")
    (root / "lists/splits/test.txt").write_text("003_M002.mp4\n")
    real = rearrange("DeeperForensics-1.0", str(tmp_path), str(tmp_path / "j")).indexes["DeeperForensics-1.0"]
    real = real["DeeperForensics-1.0"]["DF_real"]
    assert set(real["train"]) == {"M001_calm"}
    assert set(real["test"]) == {"M002_calm", "M003_calm"}


def test_uadfv(tmp_path):
    touch(tmp_path, "real/0001.mp4", "fake/0001_fake.mp4")
    assert {label for label, *_ in found(tmp_path, "UADFV").values()} == {"UADFV_Real", "UADFV_Fake"}


def test_ffiw(tmp_path):
    root = tmp_path / "FFIW-10K"
    touch(root, "source/train/vid_1.mp4", "target/test/vid_2.mp4", "source/train/frames/vid_1/000.png")
    touch(root, "target/test/frames/vid_2/000.png")
    assert {path: v[0] for path, v in found(root, "FFIW-10K").items()} == {
        "source/train/vid_1.mp4": "FFIW_Real",
        "target/test/vid_2.mp4": "FFIW_Fake",
    }
    index = rearrange("FFIW-10K", str(tmp_path), str(tmp_path / "json")).indexes["FFIW-10K"]["FFIW-10K"]
    assert set(index["FFIW_Real"]["train"]) == {"vid_1"}
    assert set(index["FFIW_Fake"]["test"]) == {"vid_2"}


def test_deepspeak_splits_by_person(tmp_path):
    root = tmp_path / "DSv1"
    touch(root, "real/a.mp4", "fake/part/b.mp4")
    for name in ("real/frames/a", "fake/frames/b", "fake/frames/mixed", "fake/frames/unlisted"):
        touch(root, f"{name}/000.png")
    (root / "annotations-real.csv").write_text("video-file,identity\na.mp4,7\n")
    (root / "annotations-fake.csv").write_text("video-file,identity-source,identity-target\nb.mp4,8,7\nmixed.mp4,9,7\n")
    (root / "annotations-split-def.csv").write_text("identity,split\n7,train\n8,train\n9,test\n")
    assert set(found(root, "DSv1")) == {"real/a.mp4", "fake/part/b.mp4"}
    report = rearrange("DSv1", str(tmp_path), str(tmp_path / "json"))
    index = report.indexes["DSv1"]["DSv1"]
    assert (index["DSv1_Real"]["train"]["a"]["target_id"], index["DSv1_Fake"]["train"]["b"]["source_id"]) == ("7", "8")
    assert index["DSv1_Fake"]["test"] == {}
    assert sum("mixed" in note or "unlisted" in note for note in report.notes) == 2
    (root / "annotations-fake.csv").write_text("video-file\nb.mp4\n")
    with pytest.raises(DataError, match="identity-source"):
        rearrange("DSv1", str(tmp_path), str(tmp_path / "json"))


def test_df40_takes_the_reals_from_their_dataset(tmp_path):
    touch(tmp_path, "DF40/simswap/ff/frames/071_054/000.png", "DF40/fomm/cdf/id0_id1_0000/000.png")
    touch(tmp_path, "FaceForensics++/original_sequences/youtube/c23/frames/071/000.png")
    touch(tmp_path, "Celeb-DF-v2/Celeb-real/frames/id0_0000/000.png")
    for split, pairs in (("train", '[["071", "054"]]'), ("val", "[]"), ("test", "[]")):
        (tmp_path / f"FaceForensics++/{split}.json").write_text(pairs)
    index = rearrange("simswap_ff", str(tmp_path), str(tmp_path / "json"), layout="DF40").indexes["simswap_ff"][
        "simswap_ff"
    ]
    real, fake = index["simswap_Real"]["train"]["071"], index["simswap_Fake"]["train"]["071_054"]
    assert real["frames"] == ["FaceForensics++/original_sequences/youtube/c23/frames/071/000.png"]
    assert fake["frames"] == ["DF40/simswap/ff/frames/071_054/000.png"]
    assert (fake["target_id"], fake["source_id"]) == ("071", "054")
    index = rearrange("fomm_cdf", str(tmp_path), str(tmp_path / "json"), layout="DF40").indexes["fomm_cdf"]["fomm_cdf"]
    assert index["fomm_Fake"]["test"]["id0_id1_0000"]["frames"] == ["DF40/fomm/cdf/id0_id1_0000/000.png"]
    assert set(index["fomm_Real"]["test"]) == {"id0_0000"}
    with pytest.raises(ConfigError, match="_ff"):
        rearrange("simswap", str(tmp_path), str(tmp_path / "json"), layout="DF40")


def test_custom_folders(tmp_path):
    touch(tmp_path, "real/a.mp4", "fake/b.mov", "fake/c.jpg", "masks/b.mp4")
    assert found(tmp_path, "Mine", "custom") == {
        "real/a.mp4": ("Mine_real", "a", None),
        "fake/b.mov": ("Mine_fake", "b", "masks/b.mp4"),
        "fake/c.jpg": ("Mine_fake", "c", None),
    }


def test_custom_split_folders(tmp_path):
    touch(tmp_path, "Mine/train/real/frames/a/000.png", "Mine/test/fake/frames/b/000.png")
    index = rearrange("Mine", str(tmp_path), str(tmp_path / "json"), layout="custom").indexes["Mine"]["Mine"]
    assert set(index["Mine_real"]["train"]) == {"a"}
    assert set(index["Mine_fake"]["test"]) == {"b"}


TABLE = "path,label,split,target_id,source_id\nclips/a.mp4,real,train,p1,\nclips/b.mp4,fake,val,p1,p2\n"


def test_custom_table(tmp_path):
    root = tmp_path / "Mine"
    touch(root, "clips/a.mp4", "clips/b.mp4", "clips/unlisted.mp4", "clips/frames/a/000.png", "clips/frames/b/000.png")
    (root / "index.csv").write_text(TABLE)
    assert set(found(root, "Mine", "custom")) == {"clips/a.mp4", "clips/b.mp4"}
    index = rearrange("Mine", str(tmp_path), str(tmp_path / "json"), layout="custom").indexes["Mine"]["Mine"]
    assert index["Mine_real"]["train"]["a"]["target_id"] == "p1"
    assert index["Mine_fake"]["val"]["b"]["source_id"] == "p2"
    # The same when the frames have been moved away from their videos.
    for name in ("a", "b", "unlisted"):
        (root / f"clips/{name}.mp4").unlink()
    again = rearrange("Mine", str(tmp_path), str(tmp_path / "json"), layout="custom").indexes["Mine"]["Mine"]
    assert again == index


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("file,label\na.mp4,real\n", "column `path`"),
        ("path,label\n../a.mp4,real\n", "inside"),
        ("path,label\na.mp4,maybe\n", "maybe"),
        ("path,label,split\na.mp4,real,dev\n", "dev"),
    ],
)
def test_custom_tables_with_faults(tmp_path, text, word):
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(DataError, match=word):
        found(tmp_path, "Mine", "custom")


def test_nested_configuration_is_deepfakebenchs(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "preprocess:\n"
        "  dataset_name: # the name of dataset\n"
        "    choices: ['FaceForensics++', 'UADFV']\n"
        "    default: 'UADFV'\n"
        "  dataset_root_path:\n"
        "    type: str\n"
        "    default: 'data'\n"
        "  num_frames: 8\n"
    )
    values = section(tmp_path / "config.yaml", "preprocess")
    assert values == {"dataset_name": "UADFV", "dataset_root_path": str(tmp_path / "data"), "num_frames": 8}
    said = {"dataset_name": "DFDC", "dataset_root_path": None, "num_frames": None}
    assert choose(said, tmp_path / "config.yaml", "preprocess")["dataset_name"] == "DFDC"
    with pytest.raises(ConfigError, match="num_frames"):
        choose({"dataset_name": None, "dataset_root_path": None}, tmp_path / "config.yaml", "preprocess")
    with pytest.raises(ConfigError, match="to_lmdb"):
        section(tmp_path / "config.yaml", "to_lmdb")


@pytest.mark.parametrize("name", ["preprocess", "rearrange", "to_lmdb"])
def test_own_configuration_is_readable(name):
    assert section(None, name)["dataset_name"] == "FaceForensics++"


def test_the_dataset_or_the_folder_around_it(tmp_path):
    (tmp_path / "in/UADFV/real").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    rules = find_layout("UADFV")
    assert dataset_folder(tmp_path / "in", "UADFV", rules.recognises) == tmp_path / "in/UADFV"
    assert dataset_folder(tmp_path / "in/UADFV", "UADFV", rules.recognises) == tmp_path / "in/UADFV"
    with pytest.raises(DataError, match="neither contains"):
        dataset_folder(tmp_path / "other", "UADFV", rules.recognises)
    with pytest.raises(DataError, match="no folder"):
        dataset_folder(tmp_path / "none", "UADFV", rules.recognises)


def test_celebdfpp_has_a_label_for_each_method(tmp_path):
    root, fakes = tmp_path / "Celeb-DF++", "Celeb-synthesis"
    touch(root, "Celeb-real/id0_0000.mp4", "YouTube-real/00170.mp4", f"{fakes}/FaceSwap/Celeb-DF/id0_id1_0000.mp4")
    touch(root, f"{fakes}/FaceSwap/GHOST/id0_id1_0001.mp4", f"{fakes}/TalkingFace/FLOAT/spoken.mp4")
    for folder, name in (("Celeb-real", "id0_0000"), ("YouTube-real", "00170"), (f"{fakes}/FaceSwap/Celeb-DF", "id0_id1_0000"),
                         (f"{fakes}/FaceSwap/GHOST", "id0_id1_0001"), (f"{fakes}/TalkingFace/FLOAT", "spoken")):  # fmt: skip
        touch(root, f"{folder}/frames/{name}/000.png")
    (root / "List_of_testing_videos.txt").write_text(
        f"1 YouTube-real/00170.mp4\n0 {fakes}/TalkingFace/FLOAT/spoken.mp4\n"
    )
    assert len(found(root, "Celeb-DF++")) == 5
    index = rearrange("Celeb-DF++", str(tmp_path), str(tmp_path / "json")).indexes["Celeb-DF++"]["Celeb-DF++"]
    assert set(index["CelebDFpp_real"]["train"]) == {"id0_0000"}
    assert set(index["CelebDFpp_real"]["test"]) == {"00170"}
    assert index["CelebDFv2_fake"]["train"]["id0_id1_0000"]["source_id"] == "id1"
    assert set(index["CelebDFpp_GHOST"]["train"]) == {"id0_id1_0001"}
    assert set(index["CelebDFpp_FLOAT"]["test"]) == {"spoken"}
    same = [same_video_key(name, "CelebDFv2_fake", True, "id0_id1_0000") for name in ("Celeb-DF++", "Celeb-DF-v2")]
    assert same[0] == same[1]
    (root / "List_of_testing_videos.txt").write_text(f"1 {fakes}/TalkingFace/FLOAT/spoken.mp4\n")
    with pytest.raises(DataError, match="flag real contradicts the folder Celeb-synthesis"):
        rearrange("Celeb-DF++", str(tmp_path), str(tmp_path / "json"))
    (root / f"{fakes}/FaceSwap/Ghots").mkdir()
    with pytest.raises(DataError, match=r"Celeb-DF\+\+ has no method Ghots"):
        found(root, "Celeb-DF++")


def test_wilddeepfakes_faces_are_indexed_as_they_are(tmp_path):
    root = tmp_path / "WildDeepfake"
    touch(root, "real_train/0/real/7/1.png", "real_train/0/real/7/2.png", "fake_train/3/fake/9/5.png")
    touch(root, "real_test/1/real/7/1.png", "fake_test/4/fake/9/5.png", "fake_test/5/fake/9/6.png")
    index = rearrange("WildDeepfake", str(tmp_path), str(tmp_path / "json")).indexes["WildDeepfake"]["WildDeepfake"]
    counts = {(label, split): [len(v["frames"]) for v in videos.values()] for label, splits in index.items()
              for split, videos in splits.items() if videos}  # fmt: skip
    assert counts == {
        ("WildDeepfake_Real", "train"): [2], ("WildDeepfake_Fake", "train"): [1],
        ("WildDeepfake_Real", "test"): [1], ("WildDeepfake_Fake", "test"): [1, 1],
    }  # fmt: skip
    with pytest.raises(DataError, match=r"nothing to crop; run rearrange\.py"):
        found(root, "WildDeepfake")


def test_deepspeak_v2_is_read_as_v1_with_labels_of_its_own(tmp_path):
    root = tmp_path / "DSv2"
    touch(root, "real/frames/a/000.png", "fake/frames/b/000.png")
    (root / "annotations-real.csv").write_text("video-file,identity\na.mp4,7\n")
    (root / "annotations-fake.csv").write_text("video-file,identity-source,identity-target\nb.mp4,7,7\n")
    (root / "annotations-split-def.csv").write_text("identity,split\n7,test\n")
    index = rearrange("DSv2", str(tmp_path), str(tmp_path / "json")).indexes["DSv2"]["DSv2"]
    assert set(index["DSv2_Real"]["test"]) == {"a"}
    assert set(index["DSv2_Fake"]["test"]) == {"b"}
