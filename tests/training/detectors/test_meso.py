"""Meso4 and MesoInception4: agreement with the reference, shared norms and own ones, and that they can learn."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch
from torch.nn import functional as F

from common.errors import ConfigError, WeightsError

BOTH = pytest.mark.parametrize("name", ["meso4", "meso4Inception"])


def small(name, **keys):
    return build(name, resolution=64, **keys)


@BOTH
@pytest.mark.parametrize("norms", ["own", "shared"])
def test_answers_as_the_reference(name, norms):
    check_outputs(filled(build(name, backbone_config={"norms": norms}), prefix="module."), tolerance=1e-5)


@BOTH
def test_loss_and_gradients_as_the_reference(name):
    detector = filled(build(name, backbone_config={"norms": "shared"}))
    check_losses(detector, {"overall": "overall", "cls": "overall"}, tolerance=1e-5)
    assert all(p.grad is not None for p in detector.parameters())


@BOTH
@pytest.mark.parametrize("norms", ["own", "shared"])
def test_gradients_reach_everything(name, norms):
    check_gradients(small(name, backbone_config={"norms": norms, "dropout": 0}), face_batch(6, 64))


@BOTH
def test_own_norms_can_part(name):
    detector, batch = small(name), face_batch(6, 64)
    last_two = [module.norm for module in detector.backbone if hasattr(module, "norm")][-2:]
    detector.get_losses(batch, detector(batch))["overall"].backward()
    assert last_two[0] is not last_two[1]
    assert not torch.equal(last_two[0].weight.grad, last_two[1].weight.grad)


def test_a_state_with_shared_norms_survives_a_round_trip():
    torch.manual_seed(3)
    first, second = (small("meso4", backbone_config={"norms": "shared"}) for _ in range(2))
    torch.nn.init.normal_(first.backbone[0].norm.weight)
    second.load_weights(first.state_dict())
    image = face_batch(2, 64)["image"]
    torch.testing.assert_close(first.eval()({"image": image})["cls"], second.eval()({"image": image})["cls"])


def test_branches_are_linear_or_rectified():
    """The first inception module against its definition, written out with plain functions."""
    image = face_batch(2, 64)["image"]
    for activation, act in (("none", lambda x: x), ("relu", torch.relu)):
        module = small("meso4Inception", backbone_config={"branch_activation": activation}).eval().backbone[0]
        branches = [act(F.conv2d(image, module.direct.weight))]
        for rate in (1, 2, 3):
            x = act(F.conv2d(image, module.reduce[rate - 1].weight))
            branches.append(act(F.conv2d(x, module.dilated[rate - 1].weight, padding=rate, dilation=rate)))
        x = torch.cat(branches, 1) / np.sqrt(1 + module.norm.eps)  # a fresh BatchNorm in evaluation
        torch.testing.assert_close(module(image), F.max_pool2d(x, 2))
    assert [b.shape[1] for b in branches] == [1, 4, 4, 2]


@BOTH
def test_learns_a_handful_of_faces(name):
    detector = small(name, backbone_config={"dropout": 0.0})
    assert overfit(detector, face_batch(8, 64), steps=150, lr=5e-3) == 1.0


@BOTH
def test_mistakes_are_said(name):
    with pytest.raises(WeightsError, match="has shape"):
        build(name).load_weights(small(name).state_dict())
    with pytest.raises(ConfigError, match="multiple, not 100"):
        build(name, resolution=100)
