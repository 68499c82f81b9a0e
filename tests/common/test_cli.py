"""What command lines share: --set with one setting or several."""

import argparse
import importlib

import pytest

from common.cli import add_set

COMMANDS = [
    "training.train", "training.test", "training.generate_map_basis", "training.dataset.generate_xray_nearest",
    "prediction.predict", "analysis.ablation", "analysis.efficiency", "analysis.calibration", "analysis.spectra",
    "analysis.gradcam", "analysis.reproduce", "analysis.boundary", "analysis.robustness",
]  # fmt: skip


def parser():
    made = argparse.ArgumentParser()
    made.add_argument("files", nargs="+")
    made.add_argument("--seed", type=int)
    add_set(made)
    return made


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("--set a=1 x.png", ["a=1"]),
        ("--set a=1 b.c=2 x.png", ["a=1", "b.c=2"]),
        ("x.png --set a=1 b=2", ["a=1", "b=2"]),
        ("--set a=1 --set b=2 x.png", ["a=1", "b=2"]),
        ("--set a=1 b=2 --seed 3 --set c=[1,2] d=4 x.png", ["a=1", "b=2", "c=[1,2]", "d=4"]),
        ("--set=a=1 b=2 x.png", ["a=1", "b=2"]),
        ("--set wrong x.png", ["wrong"]),
        ("x.png", []),
    ],
)
def test_one_setting_or_several_follow_and_files_stay_files(line, settings, monkeypatch):
    found = parser().parse_args(line.split())
    assert (found.set, found.files) == (settings, ["x.png"])
    monkeypatch.setattr("sys.argv", ["tool", *line.split()])
    assert parser().parse_args().set == settings


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_several(name):
    module = importlib.import_module(name)
    made = getattr(module, "parser", None) or module._parser
    known, _ = _lenient(made()).parse_known_args(["--set", "a=1", "b=2"])
    assert known.set == ["a=1", "b=2"]


def _lenient(made):
    """Ask for nothing else."""
    for action in made._actions:
        action.required = False
        if not action.option_strings:
            action.nargs, action.choices = "*", None
    for group in made._mutually_exclusive_groups:
        group.required = False
    return made
