"""Manipulations held out of training, and training sets of pairs or of none."""

import pytest
import torch
from helpers.pack import VIDEOS, write_pack

from analysis.ablation import read_plan
from common.errors import ConfigError, DataError
from training.config import CONFIG_DIR, load_config
from training.config.schema import Config
from training.dataset.index.selection import load_index
from training.session import overrides_from
from training.train import parser
from training.trainer.distributed import Process
from training.trainer.loaders import training_loaders
from training.trainer.results import by_manipulation

FF = "FaceForensics++"


def index(keys, split="train", **more):
    config = Config.model_validate(
        {"model_name": "any", "label_dict": {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}, **keys, **more}
    )
    return load_index(config, [FF], split)


def names(found) -> list[str]:
    return sorted(found.video_id(i).partition("/")[2] for i in range(len(found)))


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return write_pack(tmp_path_factory.mktemp("pack"), frames=1)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_held_out_manipulation_is_in_no_training_and_no_validation_but_in_the_test(keys, split):
    whole, found = index(keys, split), index(keys, split, hold_out=["FF-NT"])
    rest = [name for name in names(whole) if "FF-NT" not in name]
    assert len(rest) < len(whole)
    assert names(found) == (names(whole) if split == "test" else rest)
    if split == "train":
        assert set(found.info.manipulations) == {"FF-real", "FF-DF"}


def test_a_wrong_name_is_answered_with_the_nearest(keys):
    with pytest.raises(ConfigError, match="hold_out: there is no manipulation `FF-TN`; did you mean `FF-NT`"):
        index(keys, hold_out=["FF-TN"])
    with pytest.raises(ConfigError, match="there is no manipulation `FF-real`; known: FF-DF, FF-NT"):
        index(keys, hold_out=["FF-real"])


@pytest.fixture(scope="module")
def couples(tmp_path_factory):
    """Six people; of each a real, and of FF-DF a fake with the next but one's face."""
    people = [f"{n:03d}" for n in range(6)]
    fakes = [f"{people[n]}_{people[(n + 2) % 6]}" for n in range(6)]
    videos = {
        "FF-real": {"train": people, "val": ["720"], "test": ["953"]},
        "FF-DF": {"train": fakes, "val": ["720_672"], "test": ["953_974"]},
        "FF-NT": {"train": [*fakes[:4], "100_101"], "val": ["720_672"], "test": ["953_974"]},
    }
    assert set(videos) == set(VIDEOS)
    return write_pack(tmp_path_factory.mktemp("couples"), frames=1, videos=videos)


def test_pairs_and_none_hold_the_same_reals_and_as_many_fakes_of_each_label(couples):
    """People 000, 002, 004 have the reals. A fake of 001 wears 003's face: nobody of it is among them."""
    assert [name.split("/")[-1] for name in names(index(couples, pairing="paired"))] == [
        "000_002", "002_004", "004_000", "000_002", "002_004", "000", "002", "004"
    ]  # fmt: skip
    assert [name.split("/")[-1] for name in names(index(couples, pairing="unpaired"))] == [
        "001_003", "003_005", "005_001", "001_003", "003_005", "000", "002", "004"
    ]  # fmt: skip
    assert len(index(couples, "val", pairing="paired")) == len(index(couples, "val"))


def test_without_people_or_without_others_it_says_so(keys, tmp_path):
    with pytest.raises(
        DataError, match=f"pairing: {FF.replace('+', '[+]')} has no fakes of some people beside fakes of others"
    ):
        index(write_pack(tmp_path, frames=1), pairing="unpaired")


def test_the_command_line_holds_out_and_figures_say_it():
    args = parser().parse_args(["--hold_out", "FF-NT", "FF-DF", "--set", "nEpochs=3"])
    assert 'hold_out=["FF-NT", "FF-DF"]' in overrides_from(args)
    auc = {"value": 0.75, "low": 0.5, "high": 1.0}
    found = {"mean": auc, "gap": auc, "worst_first": [{"name": "FF-NT", "auc": auc}, {"name": "FF-FS", "auc": auc}]}
    metrics = {FF: {"manipulations": found, "counts": {"videos_real": 50, "videos_fake": 50}}}
    line = by_manipulation(metrics, ["FF-NT"])
    assert "FF-NT (held out) 0.75" in line
    assert "FF-FS 0.75" in line


@pytest.mark.parametrize("name", ["hold_out", "pairs"])
def test_shipped_plans_differ_in_what_they_leave_out_alone(name):
    plan = read_plan(CONFIG_DIR.parents[1] / "analysis" / f"{name}.yaml")
    configs = [load_config(plan.detector, [*plan.common, *keys]).model_dump() for keys in plan.variants.values()]
    changed = {key for config in configs for key in config if config[key] != configs[0][key]}
    assert changed == {"hold_out" if name == "hold_out" else "pairing"}


def test_holding_out_everything_is_said_with_its_remedy(keys):
    config = Config.model_validate({"model_name": "xception", "label_dict": {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}, **keys,
                                    "train_dataset": [FF], "hold_out": ["FF-NT", "FF-DF"], "workers": 0})  # fmt: skip
    with pytest.raises(DataError, match=r"holds no fake video.*hold_out leaves out FF-NT, FF-DF.*hold out fewer"):
        training_loaders(config, Process(0, 1, torch.device("cpu")))


def test_who_wears_an_unknown_face_is_in_neither(tmp_path):
    """`001_900` is of two known people; of a fake whose name tells the target alone nobody knows that it is unpaired."""
    videos = {
        "FF-real": {"train": ["000", "001"], "val": ["720"], "test": ["953"]},
        "FF-DF": {"train": ["000_900", "001_900"], "val": ["720_672"], "test": ["953_974"]},
        "FF-NT": {"train": ["000_900"], "val": ["720_672"], "test": ["953_974"]},
    }
    found = index(write_pack(tmp_path, frames=1, videos=videos), pairing="unpaired")
    assert [name.split("/")[-1] for name in names(found)] == ["001_900", "000"]
