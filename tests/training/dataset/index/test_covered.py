"""What the loader takes from the coverage beside an index, and that it believes none of another index."""

import json

import pytest
from helpers.pack import write_pack

from common.coverage import Slot
from common.errors import DataError
from training.batch import DataInfo
from training.config import load_config
from training.dataset.index.selection import load_index

CROPS = {"finder": "hog", "predictor": "p81.dat", "scale": 1.3, "size": 256, "version": 1}


def slot(frames: int, **missing: list[str]) -> dict:
    return {
        "expected": frames + sum(map(len, missing.values())),
        "frames": frames,
        **{why: missing.get(why, []) for why in ("no_face", "unreadable", "absent")},
    }


@pytest.fixture
def pack(tmp_path):
    """A pack of two real and three fake test videos, and what is missing of them."""
    keys = write_pack(tmp_path, frames=1, size=8)
    labels = {
        "FF-real": {"test": {"c23": slot(2, no_face=["000"]), "c40": slot(0, absent=["000", "974"])}},
        "FF-DF": {"test": {"c23": slot(2)}, "train": {"c23": slot(3)}},
        "FF-NT": {"test": {"c23": slot(1, unreadable=["974_953"], absent=["000_003"])}},
    }
    return tmp_path, keys, {"dataset": "FaceForensics++", "crops": CROPS, "labels": labels}


def write(folder, content) -> None:
    (folder / "json/FaceForensics++.coverage.json").write_text(json.dumps(content))


def index(keys, split="test", **more):
    words = [f"{key}={json.dumps(value)}" for key, value in {**keys, **more}.items()]
    return load_index(load_config("training/config/detector/demo.yaml", words), ["FaceForensics++"], split)


def test_classes_are_counted_at_the_compression_in_use(pack):
    folder, keys, content = pack
    write(folder, content)
    found = index(keys)
    known = found.coverage["FaceForensics++"]
    assert known.classes == {"real": Slot(3, 2, 1), "fake": Slot(5, 3, 0, 1)}
    assert known.classes["fake"].absent == 1
    assert found.info.crops == {"FaceForensics++": CROPS}
    assert DataInfo.from_dict(found.info.to_dict()) == found.info


def test_without_the_file_all_is_unknown(pack):
    _, keys, _ = pack
    found = index(keys)
    assert found.coverage["FaceForensics++"].classes is None
    assert found.info.crops == {}
    assert DataInfo.from_dict({"identities": {"a": 0}}).crops == {}, "of before there were any"


def test_one_of_another_index_is_not_believed(pack, caplog):
    folder, keys, content = pack
    content["labels"]["FF-NT"]["test"]["c23"] = slot(2)
    write(folder, content)
    assert index(keys).coverage["FaceForensics++"].classes is None
    assert "counts 6 videos with frames in test, the index holds 5" in caplog.text


def test_a_few_videos_on_purpose_are_not_short(pack):
    folder, keys, content = pack
    write(folder, content)
    assert index(keys, dry_run=True).coverage["FaceForensics++"].classes is None


def test_a_label_that_means_nothing_leaves_it_unknown(pack, caplog):
    folder, keys, content = pack
    content["labels"]["FF-XY"] = {"test": {"c23": slot(0, absent=["1"])}}
    write(folder, content)
    assert index(keys).coverage["FaceForensics++"].classes is None
    assert "FF-XY" in caplog.text


@pytest.mark.parametrize("content", [[], {"labels": 3}, {"labels": {"FF-real": {"test": {"c23": {"expected": 3}}}}}])
def test_a_damaged_one_says_what_to_do(pack, content):
    folder, keys, _ = pack
    write(folder, content)
    with pytest.raises(DataError, match=r"coverage\.json is no coverage of an index .*rearrange.py, or remove it"):
        index(keys)


def test_it_is_no_dataset(pack):
    folder, keys, content = pack
    write(folder, content)
    with pytest.raises(DataError, match=r"datasets there: FaceForensics\+\+ \("):
        load_index(
            load_config("training/config/detector/demo.yaml", [f"{k}={json.dumps(v)}" for k, v in keys.items()]),
            ["Nothing"],
            "test",
        )
