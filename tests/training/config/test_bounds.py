"""Numbers that no library can hold, or that would take the whole memory, are one sentence before anything begins."""

import importlib

import pytest
from helpers.training_runs import call

from common.cli import MOST_SEED
from common.errors import ConfigError
from training.config import load_config
from training.detectors import available_detectors
from training.detectors.registry import config_class
from training.session import make_detector
from training.trainer.distributed import Process

YAML = "training/config/detector/demo.yaml"
# No key of ours has a use for so many of anything.
HUGE = 10**12


def whole_numbers(schema, prefix=""):
    """Yield the dotted keys of a schema that take a whole number, with those of its sections."""
    for name, field in schema.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from whole_numbers(field.annotation, f"{prefix}{name}.")
        elif "int" in str(field.annotation).replace("Interpolation", ""):
            yield prefix + name


@pytest.mark.parametrize("name", available_detectors())
def test_every_whole_number_of_every_detector_has_an_upper_bound(name):
    for key in whole_numbers(config_class(name)):
        with pytest.raises(ConfigError) as caught:
            load_config(f"training/config/detector/{name}.yaml", [f"{key}={HUGE}"], quiet=True)
        assert key.rpartition(".")[2] in str(caught.value)


@pytest.mark.parametrize("value", [2**64, 2**32, -1, -(2**70), "1.5"])
def test_a_seed_out_of_range_is_refused(value):
    with pytest.raises(ConfigError, match="manualSeed"):
        load_config(YAML, [f"manualSeed={value}"])


def test_the_largest_seed_works():
    import torch

    config = load_config("training/config/detector/meso4.yaml", [f"manualSeed={MOST_SEED}", "pretrained=null"])
    make_detector(config, None, Process(0, 1, torch.device("cpu")), pretrained=False)


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
@pytest.mark.parametrize("key", ["optimizer.adam.lr", "grad_clip", "lr_gamma"])
def test_numbers_that_are_none_are_refused(key, value):
    with pytest.raises(ConfigError, match=key.rpartition(".")[2]):
        load_config(YAML, [f"{key}={value}"])


FLAGS = [
    ("training.train", "--seed"), ("training.train", "--max_steps"), ("training.test", "--seed"),
    ("prediction.predict", "--num_frames"), ("preprocessing.preprocess", "--num_frames"),
    ("preprocessing.preprocess", "--stride"), ("preprocessing.preprocess", "--workers"),
    ("preprocessing.to_lmdb", "--quality"), ("preprocessing.demo_data", "--seed"),
    ("preprocessing.demo_data", "--workers"), ("preprocessing.demo_faces", "--people"), ("training.demo_tower", "--steps"),
    ("analysis.tsne", "--seed"), ("analysis.tsne", "--points"),
    ("analysis.robustness", "--seed"), ("analysis.gradcam", "--seed"), ("analysis.gradcam", "--faces"),
    ("analysis.spectra", "--frames"), ("analysis.efficiency", "--batch"), ("analysis.efficiency", "--repeats"),
    ("analysis.ablation", "--seeds"), ("analysis.ablation", "--gpus"), ("analysis.reproduce", "--seeds"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "flag"), FLAGS)
@pytest.mark.parametrize("value", ["18446744073709551616", "-18446744073709551616", "1" * 5000, "x"])
def test_every_flag_has_bounds(module, flag, value, capsys):
    program = importlib.import_module(module)
    assert call([f"{flag}={value}"], program.main) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {flag}" in said
    assert "is no whole number from" in said
    assert len(said) < 200
