"""DF40's folders in every shape that was published, and the labels that its index files have."""

from pathlib import Path

import pytest

from common.errors import ConfigError, DataError
from preprocessing.layouts import find_layout
from preprocessing.lmdb_pack import key_of, product_files
from preprocessing.run_rearrange import rearrange


def plant(root: Path, *paths: str) -> Path:
    for path in (
        *paths,
        "FaceForensics++/original_sequences/youtube/c23/frames/071/000.png",
        "Celeb-DF-v2/Celeb-real/frames/id0_0000/000.png",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    for split, pairs in (("train", '[["071", "054"]]'), ("val", "[]"), ("test", '[["000", "003"]]')):
        (root / f"FaceForensics++/{split}.json").write_text(pairs)
    return root


def fakes(root: Path, dataset: str) -> dict[tuple[str, str], list[str]]:
    """Return (split, video) → frames of the fakes in the index that is made, with its two labels checked."""
    index = rearrange(dataset, str(root), str(root / "json"), layout="DF40").indexes[dataset][dataset]
    method = dataset.removesuffix("_ff").removesuffix("_cdf")
    assert set(index) == {f"{method}_Real", f"{method}_Fake"}
    assert any(index[f"{method}_Real"].values())
    return {
        (split, name): v["frames"] for split, videos in index[f"{method}_Fake"].items() for name, v in videos.items()
    }


@pytest.mark.parametrize(
    ("dataset", "files", "expected"),
    [
        ("simswap_ff", ["simswap/ff/frames/000_003/000.png"], {("test", "000_003"): 1}),
        ("e4e_ff", ["e4e/ff/000/1.jpg", "e4e/ff/000/2.jpg", "e4e/ff/003/1.jpg"], {("test", "000"): 2, ("test", "003"): 1}),
        ("e4e_ff", ["e4e/ff/inversions/000.jpg", "e4e/ff/inversions/003.jpg"], {("test", "000"): 1, ("test", "003"): 1}),
        ("DiT_cdf", ["DiT/cdf/YouTube-real/00043/458.png"], {("test", "00043"): 1}),
        ("StyleGAN3_cdf", ["StyleGAN3/cdf/Fake_from_Celeb-real/id0_0000/1.png"], {("test", "id0_0000"): 1}),
        ("e4e_cdf", ["e4e/cdf/Celeb-real/inversions/a.jpg"], {("test", "a"): 1}),
        ("rddm_ff", ["RDDM/ff/000/1.png"], {("test", "000"): 1}),
        ("MidJourney", ["MidJourney/fake/a.gif", "MidJourney/fake/b.png", "MidJourney/real/c.png"],
         {("test", "a"): 1, ("test", "b"): 1}),
        ("heygen", ["heygen/fake/frames/v/0.png", "heygen/fake/frames/v/1.png", "heygen/real/w/0.png"], {("test", "v"): 2}),
        ("heygen", ["heygen/heygen_new/fake/frames/v/0.png", "heygen/heygen_new/real/w/0.png"], {("test", "v"): 1}),
        ("stargan", ["stargan/fake/fake/a.png", "stargan/real/real/b.png"], {("test", "a"): 1}),
        ("deepfacelab", ["deepfacelab/fake/frames/v/0.jpg", "deepfacelab/real/frames/w/0.jpg"], {("test", "v"): 1}),
        ("whichisreal", ["whichfaceisreal/fake/a.jpeg", "whichfaceisreal/real/b.jpeg"], {("test", "a"): 1}),
    ],
)  # fmt: skip
def test_every_published_shape_is_indexed(tmp_path, dataset, files, expected):
    found = fakes(plant(tmp_path, *(f"DF40/{file}" for file in files)), dataset)
    assert {key: len(frames) for key, frames in found.items()} == expected
    assert {path for frames in found.values() for path in frames} == {
        f"DF40/{file}" for file in files if "/real/" not in file
    }


def test_the_training_part_lies_beside_the_testing_part(tmp_path):
    plant(
        tmp_path,
        "DF40/simswap/ff/frames/000_003/0.png",
        "DF40_train/simswap/frames/071_054/0.png",
        "DF40_train/fomm/ff/frames/071_054/0.png",
    )
    assert fakes(tmp_path, "simswap_ff") == {
        ("test", "000_003"): ["DF40/simswap/ff/frames/000_003/0.png"],
        ("train", "071_054"): ["DF40_train/simswap/frames/071_054/0.png"],
    }
    assert set(fakes(tmp_path, "fomm_ff")) == {("train", "071_054")}


def test_a_database_holds_the_keys_that_the_index_names(tmp_path):
    plant(tmp_path, "DF40/e4e/ff/000/1.jpg")
    rules, root = find_layout("e4e_ff", "DF40"), tmp_path / "DF40"
    keys = [
        key_of(root.name, path, "posix").decode() for path in product_files(root, rules.groups(root, "e4e_ff")).paths
    ]
    assert keys == ["FaceForensics++/original_sequences/youtube/c23/frames/071/000.png", "DF40/e4e/ff/000/1.jpg"]
    assert rules.database("e4e_ff") == "e4e_ff"


def test_what_is_not_there_is_said(tmp_path, capsys):
    plant(tmp_path, "DF40/simswap/ff/frames/999_998/000.png", "DF40/simswap/ff/frames/000_003/000.png")
    with pytest.raises(ConfigError, match="it is simswap_ff"):
        fakes(tmp_path, "simswap")
    with pytest.raises(DataError, match="no folder simswap/cdf"):
        fakes(tmp_path, "simswap_cdf")
    with pytest.raises(DataError, match="no folder heygen/"):
        fakes(tmp_path, "heygen")
    fakes(tmp_path, "simswap_ff")
    assert (
        "left out: 1 (stands in none of FaceForensics++'s split files): simswap/ff/999_998" in capsys.readouterr().out
    )
