"""The demo's three detectors are compared under one budget: their files differ in the detector alone."""

from pathlib import Path

import pytest

from training.config import load_config

FOLDER = Path(__file__).parents[3] / "training/config/detector"
# What a detector is made of, and masks, which only Boundary Mining is taught with.
OWN = {"model_name", "head", "arcmargin", "slerp", "losses", "with_mask"}
OWN |= {"freq_adapter", "boundary", "identity", "domain", "fusion"}


@pytest.mark.parametrize("name", ["clip_ln", "clip_linear"])
def test_those_beside_the_demo_detector_have_its_budget(name):
    demo = load_config(FOLDER / "demo.yaml").model_dump()
    beside = load_config(FOLDER / f"demo_{name}.yaml").model_dump()
    assert beside["model_name"] == name
    shared = (demo.keys() & beside.keys()) - OWN
    assert {"backbone_name", "tuning", "optimizer", "nEpochs", "train_batchSize", "data_aug", "frame_num"} <= shared
    assert {key: beside[key] for key in shared} == {key: demo[key] for key in shared}
