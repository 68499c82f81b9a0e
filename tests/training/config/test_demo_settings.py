"""The demo's detectors are compared under one budget on one tower: their files differ in the detector and in what trains."""

from pathlib import Path

import pytest

from training.config import load_config

FOLDER = Path(__file__).parents[3] / "training/config/detector"
# What a detector is made of, and masks, which only Boundary Mining is taught with.
OWN = {"model_name", "head", "arcmargin", "slerp", "losses", "with_mask", "tuning"}
OWN |= {"freq_adapter", "boundary", "identity", "domain", "fusion"}


@pytest.mark.parametrize(
    ("name", "model", "tuning"),
    [("clip_ln", "clip_ln", "layernorm"), ("clip_linear", "clip_linear", "none"), ("clip_ln_full", "clip_ln", "full")],
)
def test_those_beside_the_demo_detector_have_its_tower_and_budget(name, model, tuning):
    demo = load_config(FOLDER / "demo.yaml").model_dump()
    beside = load_config(FOLDER / f"demo_{name}.yaml").model_dump()
    assert (beside["model_name"], beside["tuning"], demo["tuning"]) == (model, tuning, "layernorm")
    # Each at the rate that validation chooses for it: at the method's own, tuned LayerNorms look worse than a frozen tower.
    rates = {settings["optimizer"]["adamw"].pop("lr") for settings in (demo, beside)}
    assert len(rates) == 2
    shared = (demo.keys() & beside.keys()) - OWN
    wanted = {"backbone_name", "pretrained", "optimizer", "nEpochs", "train_batchSize", "data_aug", "frame_num"}
    assert wanted <= shared
    assert {key: beside[key] for key in shared} == {key: demo[key] for key in shared}
    assert (demo["backbone_name"], demo["pretrained"]) == ("demo-clip", "faces")
