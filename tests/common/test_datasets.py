"""Datasets as data: the entries are complete and agree with one another, and a dataset without one works by its own name."""

import csv
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from analysis.reporting.leaderboard_table import ORDER, PUBLISHED
from analysis.reproduction.requirements import SPLITS as PUBLISHED_SPLITS
from common import datasets
from common.datasets import DATASETS, default_labels, domain, family, home, identities, labels_of, record_of, short_name
from preprocessing.layouts import available_layouts, find_layout
from training.config import load_config
from training.dataset.labels import class_of
from training.dataset.storage import open_storage

ROOT = Path(__file__).parents[2]
BY_NAME = {record.name: record for record in DATASETS}


def test_every_layouts_names_have_an_entry():
    known = {name for record in DATASETS for name in record.names}
    assert set(available_layouts()) - {"custom"} <= known  # `custom` is a shape, no dataset


@pytest.mark.parametrize("dataset", sorted(set(available_layouts()) - {"custom", "DF40"}))
def test_a_layouts_labels_are_those_of_the_entry(dataset):
    assert set(find_layout(dataset).labels(dataset)) <= set(labels_of(dataset))


def test_names_and_labels_stand_once():
    names = Counter(name for record in DATASETS for name in (*record.names, *([record.short] if record.short else ())))
    assert {name for name, times in names.items() if times > 1} <= {r.name for r in DATASETS if r.short == r.name}
    labels = Counter(label for record in DATASETS for label in record.labels)
    labels.update(f"{method}_Real" for record in DATASETS for row in record.methods for method in row)
    assert set(labels.values()) == {1}


@pytest.mark.parametrize("record", DATASETS, ids=lambda record: record.name)
def test_an_entry_is_whole(record):
    assert record.home in BY_NAME
    assert set(record.made_from.values()) <= {each.family for each in DATASETS}
    assert record.domain == record.family or record.domain in BY_NAME
    assert record.family in BY_NAME or sum(each.family == record.family for each in DATASETS) > 1
    # Layouts take the labels in this order.
    assert list(record.labels.values()) == sorted(record.labels.values())
    assert all(class_of(label, {}) in (None, number) for label, number in record.labels.items())
    rule = record.identity
    if rule:
        groups = {part: set(re.compile(getattr(rule, part) or "").groupindex) for part in ("real", "fake", "folder")}
        assert groups["fake"] - {"source"} == {"target"}
        assert groups["real"] | groups["folder"] == {"person"}
        assert [each for each in DATASETS if each.family == record.family and each.identity] == [record]


def test_a_mistyped_key_of_an_entry_is_refused():
    with pytest.raises(TypeError, match="shrot"):
        datasets._record("X", {"shrot": "x"})


def test_the_columns_are_those_of_the_published_table():
    with open(PUBLISHED, newline="", encoding="utf-8") as file:
        columns = next(csv.reader(file))
    assert list(ORDER) == [name for name in columns[3:] if not name.startswith(("Avg.", "Top3"))]


def test_published_counts_are_of_known_datasets():
    with open(PUBLISHED_SPLITS, newline="", encoding="utf-8") as file:
        assert {row["dataset"] for row in csv.DictReader(file)} <= BY_NAME.keys()


@pytest.mark.parametrize(
    ("dataset", "short"),
    [
        ("FaceForensics++", "FF++_c23"),
        ("FaceForensics++_c40", "FF++_c40"),
        ("FaceForensics++_raw", "FaceForensics++_raw"),
        ("Celeb-DF-v2", "CDFv2"),
        ("FF-DF_c40", "FF-DF_c40"),
        ("Mine", "Mine"),
    ],
)
def test_short_names(dataset, short):
    assert short_name(dataset) == short


def test_facts_follow_from_an_entry():
    assert (datasets.plain_name("FFIW_c23"), datasets.other_names("FFIW")) == ("FFIW-10K", ("FFIW-10K",))
    assert family("FaceShifter_c40") == family("FF-NT") == family("simswap_ff") == "FaceForensics++"
    assert family("Celeb-DF-v2") == family("Celeb-DF-v3") == family("simswap_cdf") == "Celeb-DF"
    assert (domain("FF++_c40"), domain("FaceShifter"), domain("Fsh")) == (
        "FaceForensics++",
        "FaceShifter",
        "FaceShifter",
    )
    assert [home(name) for name in ("FF-DF", "DeepFakeDetection", "DFDC")] == ["FaceForensics++"] * 2 + ["DFDC"]


def test_a_dataset_without_an_entry_falls_back_on_its_own_name(tmp_path):
    assert record_of("Mine") is None
    assert (family("Mine"), domain("Mine_c23"), home("Mine"), short_name("Mine")) == ("Mine",) * 4
    assert identities("Mine", "033_097") == datasets.UNKNOWN
    settings = tmp_path / "mine.yaml"
    settings.write_text("model_name: meso4\nlabel_dict: {Mine_odd: 1}\nlmdb: true\nlmdb_dir: " + str(tmp_path))
    config = load_config(settings)
    assert config.label_dict == {**default_labels(), "Mine_odd": 1}
    assert open_storage(config, "Mine_c23").place("x") == f"the key x of the database {tmp_path / 'Mine_lmdb'}"


@pytest.mark.parametrize("dataset", ["FaceShifter", "FF-DF_c40", "DeepFakeDetection_c23"])
def test_a_guests_frames_are_in_its_hosts_database_unless_it_has_its_own(tmp_path, dataset):
    (tmp_path / "d.yaml").write_text(f"model_name: meso4\nlmdb: true\nlmdb_dir: {tmp_path}\n")
    config = load_config(tmp_path / "d.yaml")
    assert "FaceForensics++_lmdb" in open_storage(config, dataset).place("x")
    own = tmp_path / f"{datasets.split_level(dataset)[0]}_lmdb"
    own.mkdir()
    assert str(own) in open_storage(config, dataset).place("x")


def test_the_mode_files_spell_no_dataset():
    for mode in ("train", "test"):
        text = (ROOT / "training/config" / f"{mode}_config.yaml").read_text()
        assert "label_dict" not in yaml.safe_load(text)


# A level's rule, the splits and a label belong to the entries; a path or an example may name them.
SPELLED = re.compile(
    r"\(\"train\", \"val\", \"test\"\)|\(c23\||\"_c23\", \"_c40\"|\"c23\", \"c40\"|\"raw\", \"c23\"|[\"'](?:"
    + "|".join(re.escape(label) for record in DATASETS for label in record.labels)
    + r")[\"']"
)


def test_no_code_spells_what_the_entries_say():
    rooms = ("common", "preprocessing", "training", "prediction", "analysis")
    spelled = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for room in rooms
        for path in sorted((ROOT / room).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if SPELLED.search(line)
    ]
    assert not spelled, "common/datasets.yaml says it: " + "; ".join(spelled)


def test_reading_the_entries_is_cheap():
    heavy = ("torch", "pydantic", "numpy", "training.config.schema")
    code = f"import sys, common.datasets; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.strip() == "[]"
