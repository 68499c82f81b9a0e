"""Losses by name: raw as the paper names them, and weighted so that they sum to the total."""

import pytest
import torch
from helpers.detector_checks import losses_of
from helpers.faces import face_batch

from training.batch import DataInfo
from training.detectors import build_detector
from training.detectors.base import Clock
from training.detectors.registry import config_class
from training.trainer.watching import losses_by_name, losses_in_words

INFO = DataInfo({"a": 0, "b": 1}, {"real": 0, "fake": 1}, {"x": 0, "y": 1}, {"real": 6, "fake": 6})
TOWER = {"backbone_name": "tiny", "resolution": 32}
# What switches further terms on, at weights that are not 1.
KEYS = {
    "capsule_net": {"loss_func": "margin_loss", "margin_weight": 0.7},
    "effort": {**TOWER, "effort": {"residual_rank": 2, "orthogonality": 0.5, "singular_values": 0.25}},
    "clip_ln": {**TOWER, "losses": {"alignment": 0.3, "uniformity": 0.2}},
    "clip_crossdomain": {
        **TOWER,
        "with_mask": True,
        "freq_adapter": {"channels": 8},
        "boundary": {"channels": 8},
        "losses": {"alignment": 0.3, "uniformity": 0.2, "consistency": 0.4, "boundary": 0.6},
        "identity": {"weight": 0.5},
        "domain": {"enabled": True, "weight": 0.7},
    },
    "facexray": {"backbone_name": "hrnet_w18_small"},
    "recce": {"flood": 5.0},
    "lrl": {"patch": 1, "mask_weight": 0.5, "similarity_weight": 2.0},
}
# The detectors with more than one term, and which of these count otherwise than as they are. The tests of each detector ask
# the same of it (`losses_of`).
WEIGHTED = {
    "effort": {"orthogonality", "singular_values", "real", "fake"},
    "capsule_net": {"margin"},
    "clip_ln": {"alignment", "uniformity"},
    "clip_crossdomain": {"alignment", "uniformity", "consistency", "boundary", "identity", "domain"},
    "core": {"consistency"},
    "facexray": {"mask"},
    "ffd": {"mask"},
    "pcl_xception": {"pcl"},
    "recce": {"cls", "reconstruction", "metric"},
    "lrl": {"mask", "similarity"},
    "ucf": {"specific", "reconstruction", "contrastive"},
}


def batch_for(name, side):
    batch = face_batch(4, side)
    people = torch.tensor([0, 1, 0, 1])
    xray = torch.rand((4, 1, side, side), generator=torch.Generator().manual_seed(0))
    return {
        **batch,
        "method": batch["label"].clone(),
        "target_id": people,
        "source_id": people,
        "domain": people,
        "xray": xray,
        "roles": 2,
    }


@pytest.mark.parametrize("name", WEIGHTED)
def test_weighted_parts_of_a_detector_sum_to_the_total(name):
    torch.manual_seed(0)
    keys = {"pretrained": None, "resolution": 64, **KEYS.get(name, {})}
    config = config_class(name)(model_name=name, **keys)
    detector = build_detector(config, INFO, pretrained=False).train()
    detector.before_step(Clock(5, 10, 5))
    batch = detector.prepare(batch_for(name, config.resolution))
    losses = losses_of(detector, batch, detector(batch))
    parts = {name: value for name, value in losses.items() if name != "overall"}
    shares = detector.shares(parts)
    assert set(shares) == set(parts)
    assert {part for part in parts if shares[part] is not parts[part]} == WEIGHTED[name]


SAID = {"overall": 0.8, "cls": 0.5, "mask": 3.0, "weighted/cls": 0.5, "weighted/mask": 0.3}


def test_the_record_says_which_are_raw_and_which_weighted():
    assert losses_by_name(SAID) == {
        "loss/overall": 0.8,
        "loss/cls": 0.5,
        "loss/mask": 3.0,
        "loss_weighted/cls": 0.5,
        "loss_weighted/mask": 0.3,
    }
    assert set(losses_by_name(SAID, "epoch_loss")) >= {"epoch_loss/mask", "epoch_loss_weighted/mask"}
    assert losses_in_words(SAID) == "loss 0.8000 = cls 0.5000 + mask 0.3000 (raw 3.0000)"


def test_what_weighs_nothing_is_told_beside_the_sum():
    said = {**SAID, "real": 0.7, "weighted/real": 0.0}
    assert losses_in_words(said) == "loss 0.8000 = cls 0.5000 + mask 0.3000 (raw 3.0000); beside it real 0.7000"


def test_of_parts_that_do_not_sum_none_is_claimed():
    silent = {**SAID, "weighted/mask": 3.0}
    assert set(losses_by_name(silent)) == {"loss/overall", "loss/cls", "loss/mask"}
    assert losses_in_words(silent) == "loss 0.8000 (raw: cls 0.5000, mask 3.0000)"
