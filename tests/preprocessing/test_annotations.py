"""Labels and splits in the datasets' own files: understood where the meaning is plain, else refused with value and place."""

import json
from pathlib import Path

import pytest

from common.errors import DataError
from common.labels import find_kind
from preprocessing.layouts._annotations import find_split
from preprocessing.run_rearrange import rearrange


def plant(root: Path, tree: dict[str, object]) -> Path:
    """Make files: text, JSON of what is no text, nothing for None."""
    for path, content in tree.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content) if content is not None else ""
        place.write_text(text)
    return root


def classes(root: Path, dataset: str, layout: str | None = None) -> dict[str, str]:
    """Return video → label, of the index that is made."""
    index = rearrange(dataset, str(root), str(root / "json"), layout=layout).indexes[dataset][dataset]
    return {name: label for label, splits in index.items() for videos in splits.values() for name in videos}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *((value, "fake") for value in ("FAKE", "Fake ", "1", "1.0", 1, 1.0, True, "true", "deepfake")),
        *((value, "real") for value in ("REAL", " real", "0", "0.0", 0, 0.0, False, "False", "original")),
        *((value, None) for value in ("", "maybe", "2", 0.7, "nan", "-1", None, [1], "unreal", "fakes and reals")),
    ],
)
def test_a_label_is_understood_or_not(value, kind):
    assert find_kind(value) == kind


def test_a_split_is_understood_or_not():
    assert [find_split(word) for word in ("Train", "validation", " test", "dev", "", None)] == [
        "train",
        "val",
        "test",
        None,
        None,
        None,
    ]


def dfdc(root: Path, **files: object) -> Path:
    frames = {f"DFDC/test/frames/{name}/000.png": None for name in "ab"}
    return plant(root, frames | {f"DFDC/test/{name.replace('_', '.')}": content for name, content in files.items()})


@pytest.mark.parametrize(("real", "fake"), [("REAL", "FAKE"), ("real", "Fake"), (0, 1), ("0.0", "1.0"), (False, True)])
def test_dfdcs_metadata_is_read_whatever_writes_its_labels(tmp_path, real, fake):
    content = {"a.mp4": {"label": fake, "original": "b.mp4"}, "b.mp4": {"label": real}}
    assert classes(dfdc(tmp_path, metadata_json=content), "DFDC") == {"a": "DFDC_Fake", "b": "DFDC_Real"}


@pytest.mark.parametrize(("real", "fake"), [("0", "1"), ("0.0", "1.0"), ("REAL", "FAKE")])
def test_dfdcs_table_is_read_whatever_writes_its_labels(tmp_path, real, fake):
    table = f"filename, label\na.mp4,{fake}\nb.mp4, {real}\n"
    assert classes(dfdc(tmp_path, labels_csv=table), "DFDC") == {"a": "DFDC_Fake", "b": "DFDC_Real"}


def test_a_metadata_without_labels_leaves_them_to_the_table(tmp_path):
    bare = {"a.mp4": {"augmentations": {}}, "b.mp4": {"label": None}}
    root = dfdc(tmp_path, metadata_json=bare, labels_csv="filename,label\na.mp4,1\nb.mp4,0\n")
    assert classes(root, "DFDC") == {"a": "DFDC_Fake", "b": "DFDC_Real"}
    (root / "DFDC/test/labels.csv").unlink()
    with pytest.raises(DataError, match=r"neither labels\.csv nor a metadata\.json with labels"):
        classes(root, "DFDC")


def test_a_clip_without_a_label_is_left_out_and_named(tmp_path, capsys):
    root = dfdc(tmp_path, metadata_json={"a.mp4": {"label": "FAKE"}, "b.mp4": {}})
    assert classes(root, "DFDC") == {"a": "DFDC_Fake"}
    assert "left out: 1 (has no label in its folder's annotation): test/b" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"metadata_json": {"a.mp4": {"label": "MAYBE"}}}, r"metadata\.json, entry a\.mp4: the label `MAYBE`"),
        ({"metadata_json": {"a.mp4": {"label": 2}}}, r"metadata\.json, entry a\.mp4: the label `2`"),
        ({"metadata_json": {"a.mp4": "FAKE"}}, r"metadata\.json does not map"),
        ({"metadata_json": ["a.mp4"]}, r"metadata\.json does not map"),
        ({"labels_csv": "filename,label\na.mp4,1\nb.mp4,0.5\n"}, r"labels\.csv, line 3: the label `0\.5`"),
        ({"labels_csv": "filename,label\na.mp4,\n"}, r"labels\.csv, line 2: the label ``"),
        ({"labels_csv": "filename,label\na.mp4,1\na.mp4,0\n"}, r"labels\.csv, line 3 contradicts line 2"),
        ({"labels_csv": "filename,class\na.mp4,1\n"}, r"labels\.csv lacks the column `label`"),
        ({"labels_csv": "filename,label\na, b.mp4,1\n"}, r"labels\.csv, line 2: the first line names 2 columns"),
        ({"labels_csv": 'filename,label\n"a.mp4,1\n'}, r"labels\.csv, line \d"),
        (
            {"metadata_json": {"a.mp4": {"label": "REAL"}}, "labels_csv": "filename,label\na.mp4,1\n"},
            r"labels\.csv, line 2: the label fake contradicts .*metadata\.json, which says real",
        ),
    ],
)
def test_what_dfdc_means_by_nothing_is_refused(tmp_path, files, said):
    with pytest.raises(DataError, match=said):
        classes(dfdc(tmp_path, **files), "DFDC")


CELEB = {
    "Celeb-DF-v2/Celeb-real/frames/id0_0000/000.png": None,
    "Celeb-DF-v2/Celeb-synthesis/frames/id0_id1_0000/000.png": None,
}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("1 Celeb-real/id0_0000.mp4\n\n1 Celeb-synthesis/id0_id1_0000.mp4\n", "line 3: the flag real contradicts"),
        ("0 YouTube-real/00170.mp4\n", "line 1: the flag fake contradicts the folder YouTube-real"),
        ("2 Celeb-real/id0_0000.mp4\n", "line 1: `2 Celeb-real"),
        ("Celeb-real/id0_0000.mp4\n", "line 1: `Celeb-real"),
        ("1 Celeb-fake/id0_0000.mp4\n", "line 1: `1 Celeb-fake"),
    ],
)
def test_celeb_dfs_list_must_say_what_its_folders_say(tmp_path, lines, said):
    root = plant(tmp_path, CELEB | {"Celeb-DF-v2/List_of_testing_videos.txt": lines})
    with pytest.raises(DataError, match=said):
        classes(root, "Celeb-DF-v2")


def test_celeb_dfs_list_says_1_for_real(tmp_path):
    lines = "1 Celeb-real/id0_0000.mp4\n0  Celeb-synthesis/id0_id1_0000.mp4\n1 YouTube-real/absent.mp4\n"
    root = plant(tmp_path, CELEB | {"Celeb-DF-v2/List_of_testing_videos.txt": lines})
    assert classes(root, "Celeb-DF-v2") == {"id0_0000": "CelebDFv2_real", "id0_id1_0000": "CelebDFv2_fake"}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            {"label": "real", "set": "train"},
            r"entry method_A/1/1_2/1_2_A\.mp4: the label real contradicts the folder method_A",
        ),
        ({"label": "dubious", "set": "train"}, "the label `dubious`"),
        ({"label": "fake", "set": "later"}, "the split `later`"),
        ({"label": "fake"}, "tells no `set`"),
        ("train", "does not map clips"),
    ],
)
def test_dfdcps_list_must_say_what_its_folders_say(tmp_path, facts, said):
    tree = {"DFDCP/method_A/frames/1_2_A/000.png": None, "DFDCP/dataset.json": {"method_A/1/1_2/1_2_A.mp4": facts}}
    with pytest.raises(DataError, match=said):
        classes(plant(tmp_path, tree), "DFDCP")


def test_splits_that_are_none_or_contradict_each_other(tmp_path):
    annotations = {
        "DSv1/annotations-real.csv": "video-file,identity\na.mp4,7\n",
        "DSv1/annotations-fake.csv": "video-file,identity-source,identity-target\n",
        "DSv1/annotations-split-def.csv": "identity,split\n7,later\n",
    }
    with pytest.raises(DataError, match=r"annotations-split-def\.csv, line 2: the split `later`"):
        classes(plant(tmp_path, annotations | {"DSv1/real/frames/a/000.png": None}), "DSv1")
    lists = {f"DeeperForensics-1.0/lists/splits/{split}.txt": "" for split in ("train", "val", "test")}
    lists |= {f"DeeperForensics-1.0/lists/splits/{split}.txt": "001_M001.mp4\n" for split in ("val", "test")}
    frames = {"DeeperForensics-1.0/manipulated_videos/end_to_end/frames/001_M001/000.png": None}
    with pytest.raises(
        DataError, match=r"test\.txt, line 1, 001_M001: the split test contradicts another list, which says val"
    ):
        classes(plant(tmp_path, lists | frames), "DeeperForensics-1.0")
    pairs = {f"FaceForensics++/{split}.json": [["001", "002"]] for split in ("train", "val", "test")}
    frames = {"FaceForensics++/original_sequences/youtube/c23/frames/001/000.png": None}
    with pytest.raises(
        DataError, match=r"val\.json, 001: the split val contradicts another split file, which says train"
    ):
        classes(plant(tmp_path, pairs | frames), "FaceForensics++")


@pytest.mark.parametrize(
    ("dataset", "layout", "known", "strange"),
    [
        ("UADFV", None, "real/frames/0001/000.png", "unknown/0002.mp4"),
        ("FFIW-10K", None, "source/train/frames/v/000.png", "middle/train/v.mp4"),
        ("DFDCP", None, "method_A/frames/1_2_A/000.png", "method_C/1/v.mp4"),
        ("Mine", "custom", "train/real/frames/a/000.png", "train/neither/a.mp4"),
        ("Mine", "custom", "real/frames/a/000.png", "rael/a.mp4"),
        (
            "DeepFakeDetection",
            None,
            "original_sequences/actors/c23/frames/a/000.png",
            "manipulated_sequences/X/c23/videos/a.mp4",
        ),
    ],
)
def test_a_folder_that_is_no_known_class_is_no_class(tmp_path, capsys, dataset, layout, known, strange):
    folder = "FaceForensics++" if dataset == "DeepFakeDetection" else dataset
    tree = {
        f"{folder}/{known}": None,
        f"{folder}/{strange}": None,
        "DFDCP/dataset.json": {"method_A/1/1_2_A.mp4": {"set": "test"}},
    }
    assert len(classes(plant(tmp_path, tree), dataset, layout)) == 1
    assert (
        f"left out: {'/'.join(strange.split('/')[: 1 + (strange.startswith(('train', 'manip')))])} is no folder"
        in capsys.readouterr().out
    )


def test_the_custom_folders_are_known_in_any_case(tmp_path):
    tree = {
        f"Mine/{folder}/frames/{n}/000.png": None
        for n, folder in enumerate(("Real", "FAKE", "Validation/fake", "TEST/Real"))
    }
    index = rearrange("Mine", str(plant(tmp_path, tree)), str(tmp_path / "json"), layout="custom").indexes["Mine"][
        "Mine"
    ]
    where = {
        name: (label, split) for label, splits in index.items() for split, videos in splits.items() for name in videos
    }
    assert where == {
        "0": ("Mine_real", "test"), "1": ("Mine_fake", "test"), "2": ("Mine_fake", "val"), "3": ("Mine_real", "test"),
    }  # fmt: skip


def mine(root: Path, rows: str, **more: object) -> Path:
    tree = {
        f"Mine/{path}": None
        for path in ("fake/ax.mp4", "fake/bx.mp4", "fake/frames/ax/000.png", "fake/frames/bx/000.png")
    }
    return plant(root, tree | {"Mine/index.csv": f"path,label,split\n{rows}"} | more)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "fake/ax.mp4,fake,\nfake/bxx.mp4,fake,\n",
            r"index\.csv, line 3: there is no fake/bxx\.mp4 .* did you mean fake/bx\.mp4",
        ),
        ("feke/ax.mp4,fake,\n", r"line 2: there is no feke/ax\.mp4"),
        (" fake/ax.mp4,fake,\n", r"line 2: the path ` fake/ax\.mp4` begins or ends with a blank"),
        ("fake/ax.mp4,fake,\nfake/bx.mp4,fake,\nfake/ax.mp4,real,\n", r"line 4 contradicts line 2 about fake/ax\.mp4"),
        ("fake/ax.mp4,fake,test\nfake\\ax.mp4,fake,train\n", r"line 3 contradicts line 2"),
        ("fake/ax.mp4,real,\n", r"line 2: the label Mine_real contradicts the folder fake"),
        ("fake/ax.mp4,fake,,extra\n", r"line 2: the first line names 3 columns"),
        ("fake/ax.mp4\n", r"line 2: the first line names 3 columns"),
        ("fake/frames/ax/notes.txt,fake,\n", "line 2: there is no fake/frames"),
    ],
)
def test_a_row_of_index_csv_that_cannot_be_meant_is_an_error_that_names_its_line(tmp_path, rows, said):
    with pytest.raises(DataError, match=said):
        classes(mine(tmp_path, rows), "Mine", "custom")


def test_a_row_that_is_no_video_by_its_ending_is_named(tmp_path):
    with pytest.raises(DataError, match=r"line 2: fake/list\.m3u8 is neither a video nor a picture"):
        classes(mine(tmp_path, "fake/list.m3u8,fake,\n", **{"Mine/fake/list.m3u8": "ax.mp4"}), "Mine", "custom")


def test_a_split_against_its_folder_is_a_contradiction(tmp_path):
    tree = {"Mine/train/real/a.mp4": None, "Mine/train/real/frames/a/000.png": None}
    root = plant(tmp_path, tree | {"Mine/index.csv": "path,label,split\ntrain/real/a.mp4,0.0,TEST\n"})
    with pytest.raises(DataError, match="line 2: the split test contradicts the folder train/real, which says train"):
        classes(root, "Mine", "custom")


def test_rows_that_say_the_same_twice_count_once(tmp_path):
    root = mine(tmp_path, "fake/ax.mp4,fake,\nfake/./ax.mp4, Fake ,\nfake/bx.mp4,1.0,test\n,,\n")
    assert classes(root, "Mine", "custom") == {"ax": "Mine_fake", "bx": "Mine_fake"}


def test_a_row_whose_video_had_no_face_is_no_typing_error(tmp_path):
    (root := mine(tmp_path, "fake/ax.mp4,fake,\nfake/gone.mp4,fake,\n"))
    (root / "Mine/manifest.jsonl").write_text('{"video": "fake/gone.mp4", "state": "no_face"}\n')
    assert classes(root, "Mine", "custom") == {"ax": "Mine_fake"}


def test_files_in_the_datasets_folder_and_below_a_listed_one_are_taken_once(tmp_path):
    tree = {f"Mine/{path}": None for path in ("a.mp4", "clips/b.mp4", "clips/more/c.mp4")}
    tree |= {f"Mine/{path}/000.png": None for path in ("frames/a", "clips/frames/b", "clips/more/frames/c")}
    table = "path,label\na.mp4,real\nclips/b.mp4,fake\nclips/more/c.mp4,fake\n"
    from preprocessing.layouts import find_layout

    root, rules = plant(tmp_path, tree | {"Mine/index.csv": table}) / "Mine", find_layout("Mine", "custom")
    sources = [video.path for group in rules.groups(root, "Mine") for video in rules.sources(root, group)]
    assert sorted(sources) == ["a.mp4", "clips/b.mp4", "clips/more/c.mp4"]
    assert classes(tmp_path, "Mine", "custom") == {"a": "Mine_real", "b": "Mine_fake", "c": "Mine_fake"}


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_list_says_methods_and_people_in_whatever_form(tmp_path, sign):
    """Of aligned faces and of videos alike; `identity` is whose head it is, and a real has no method."""
    rows = [
        ["Method", "PATH", "label", "Split", "identity"],
        ["", "faces/ann", "real", "train", "ann"],
        ["youtube", "faces/bob", "0", "", "bob"],
        ["FaceSwap", "faces/ann_bob", "fake", "train", "ann"],
        ["SimSwap", "faces/bob_ann", "1", "", ""],
    ]
    table = "\ufeff" + "\n".join(sign.join(row) for row in rows) + "\n"
    faces = {
        f"Mine/faces/{name}/{n:03d}.png": None
        for name in ("ann", "bob", "ann_bob", "bob_ann", "more")
        for n in range(2)
    }
    root = plant(tmp_path, faces | {"Mine/index.csv": table})
    index = rearrange("Mine", str(root), str(root / "json"), layout="custom").indexes["Mine"]["Mine"]
    found = {
        (label, split, name): entry.get("target_id")
        for label, splits in index.items() for split, videos in splits.items() for name, entry in videos.items()
    }  # fmt: skip
    assert found == {
        ("Mine_real", "train", "ann"): "ann",
        ("Mine_real", "test", "bob"): "bob",
        ("Mine_FaceSwap_fake", "train", "ann_bob"): "ann",
        ("Mine_SimSwap_fake", "test", "bob_ann"): None,
    }


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("faces/a,fake,ann,bob,\n", r"line 2: the identity ann contradicts the column target_id, which says bob"),
        ("faces/a,fake,,,a/b\n", r"line 2: the method `a/b` must be letters"),
    ],
)
def test_a_list_that_cannot_be_meant_is_an_error_that_names_its_line(tmp_path, rows, said):
    tree = {"Mine/faces/a/000.png": None, "Mine/index.csv": f"path,label,identity,target_id,method\n{rows}"}
    with pytest.raises(DataError, match=said):
        classes(plant(tmp_path, tree), "Mine", "custom")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("path,label,spilt\nfaces/a,fake,train\n", r"the column `spilt` means nothing here; did you mean `split`"),
        ("path,label,Label\nfaces/a,fake,real\n", r"names the column `label` twice"),
        ("path,label\n", r"index\.csv names columns and nothing else"),
    ],
)
def test_a_first_line_that_would_lose_something_is_an_error(tmp_path, table, said):
    with pytest.raises(DataError, match=said):
        classes(plant(tmp_path, {"Mine/faces/a/000.png": None, "Mine/index.csv": table}), "Mine", "custom")


def test_columns_of_ones_own_are_left_alone(tmp_path):
    tree = {"Mine/faces/a/000.png": None, "Mine/index.csv": "path,label,generator,fps\nfaces/a,fake,x,25\n"}
    assert classes(plant(tmp_path, tree), "Mine", "custom") == {"a": "Mine_fake"}
