"""A detector that takes another form with its weights: new parts are set as those whose place they take."""

import pytest
import torch
from helpers.detector_checks import build
from parity.fill import fill_state_dict, load_golden
from torch import nn

from common.errors import WeightsError

# Detector, its keys, the form of the weights that it is given, and a part that then is new.
CHANGES = {
    "spsl grows": ("spsl", {}, {"backbone_config": {"mode": "original", "inc": 4}}, "backbone.block4"),
    "spsl shrinks": ("spsl", {"backbone_config": {"mode": "original", "inc": 4}}, {}, "backbone.block4"),
    "ucf": (
        "ucf",
        {"specific_classes": 3, "resolution": 64},
        {"specific_classes": 5, "resolution": 64},
        "specific_head",
    ),
    "f3net": ("f3net", {"resolution": 64}, {"resolution": 64, "branches": "fad"}, "mix"),
}


@pytest.fixture(scope="module", params=CHANGES)
def change(request):
    name, own, given, part = CHANGES[request.param]
    return name, own, build(name, **given).state_dict(), part


@pytest.mark.parametrize("training", [False, True])
def test_new_parts_have_the_mode_of_the_whole(change, training):
    name, own, state, part = change
    detector = build(name, **own).train(training)
    before = detector.get_submodule(part)
    detector.load_weights(state)
    assert detector.get_submodule(part) is not before
    assert {module.training for module in detector.modules()} == {training}


def test_answers_are_those_of_evaluation_at_once():
    golden = load_golden("spsl")
    detector = build("spsl").eval()
    detector.load_weights(fill_state_dict(golden["keys"], skip=golden["not_filled"]))
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = detector({"image": image}, inference=True)["cls"]
        torch.testing.assert_close(found, detector.eval()({"image": image}, inference=True)["cls"])


def test_new_parts_have_precision_and_frozenness_of_what_they_replace():
    _, own, given, _ = CHANGES["ucf"]
    detector = build("ucf", **own).double()
    detector.specific_head.requires_grad_(False)
    detector.load_weights(build("ucf", **given).state_dict())
    assert {p.dtype for p in detector.specific_head.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in detector.specific_head.parameters())
    assert all(p.requires_grad for p in detector.common_head.parameters())


def test_a_part_within_a_frozen_trunk_in_evaluation_is_so_too():
    detector = build("spsl").train()
    detector.backbone.requires_grad_(False).eval()
    detector.load_weights(build("spsl", backbone_config={"mode": "original", "inc": 4}).state_dict())
    assert not any(p.requires_grad for p in detector.backbone.parameters())
    assert not any(module.training for module in detector.backbone.modules())
    assert detector.head.training
    assert detector.head.weight.requires_grad


def test_refused_weights_leave_the_form_as_it_was(change):
    name, own, state, _ = change
    detector = build(name, **own)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    parts, settings = list(detector.modules()), {k: v for k, v in vars(detector).items() if isinstance(v, int)}
    lacking = {key: value for key, value in state.items() if not key.endswith("block12.rep.1.pointwise.weight")}
    with pytest.raises(WeightsError, match="missing"):
        detector.load_weights(lacking)
    assert list(detector.modules()) == parts
    assert {k: v for k, v in vars(detector).items() if isinstance(v, int)} == settings
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


def test_a_frozen_clip_tower_is_in_evaluation_from_the_start():
    detector = build("clip_linear", backbone_name="tiny", resolution=32)
    assert detector.training
    assert not any(module.training for module in detector.tower.modules())
    assert isinstance(detector.head, nn.Linear)
