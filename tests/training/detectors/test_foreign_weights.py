"""Weights of other networks are refused with a sentence by every detector, whatever their names and shapes are."""

import pytest
import torch
from helpers.detector_checks import build
from helpers.video import VIDEO_TRANSFORMERS, tiny
from parity.fill import load_golden

from common.errors import WeightsError
from training.detectors import available_detectors
from training.networks.conversion.efficientnet_keys import timm_keys


def keys_of(name):
    """The reference's names of a detector, which the translations are written for."""
    try:
        return [key for key, *_ in load_golden(name)["keys"]]
    except FileNotFoundError:
        return []


@pytest.fixture(scope="module", params=available_detectors())
def detector(request):
    keys = {"backbone_name": "tiny", "resolution": 32} if request.param.startswith("clip") else {}
    if request.param == "iid":
        keys = {"explicit_extractor": "tiny"}
    keys |= tiny(request.param) if request.param in VIDEO_TRANSFORMERS else {}
    if request.param == "tall":
        keys = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "resolution": 32}
    if request.param == "stil":
        keys = {"backbone_name": "scnet_tiny"}
    return build(request.param, **keys)


def states(detector):
    """States with the right names and wrong shapes, with pieces missing, with other numbers, and of every other detector."""
    name, own = detector.name, [*keys_of(detector.name), *detector.state_dict()]
    yield "scalars", {key: torch.tensor(1.0) for key in own}
    yield "five dimensions", {key: torch.zeros(1, 1, 1, 1, 1) for key in own}
    yield "nothing in them", {key: torch.zeros(0) for key in own}
    yield "every other", {key: torch.zeros(2, 2) for key in own[::2]}
    yield "large numbers", {key.replace(".0.", ".99.").replace(".1.", ".98."): torch.zeros(2, 2) for key in own}
    yield "first names alone", {key.partition(".")[0]: torch.zeros(2) for key in own}
    for other in available_detectors():
        if other != name and keys_of(other):
            yield other, {key: torch.zeros(3, 3) for key in keys_of(other)}


def test_whatever_is_given_it_is_a_sentence(detector):
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    for what, state in states(detector):
        with pytest.raises(WeightsError, match="does not hold the weights") as caught:
            detector.load_weights(state)
        assert "\n" not in str(caught.value), what
    after = detector.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in after.items())


def published(blocks):
    """Names of `efficientnet_pytorch` with so many blocks."""
    parts = [
        "_depthwise_conv.weight",
        "_bn1.weight",
        "_expand_conv.weight",
        "_se_reduce.weight",
        "_project_conv.weight",
    ]
    state = {f"_blocks.{number}.{part}": torch.zeros(1) for number in range(blocks) for part in parts}
    return state | {"_conv_stem.weight": torch.zeros(32, 3, 3, 3), "_fc.weight": torch.zeros(1000, 8)}


@pytest.mark.parametrize(
    ("blocks", "size"), [(16, "B0"), (23, "B1 or B2"), (26, "B3"), (39, "B5"), (45, "B6"), (55, "B7")]
)
def test_an_efficientnet_of_another_size_is_named(blocks, size):
    for prefix in ("", "backbone."):
        with pytest.raises(
            WeightsError, match=f"EfficientNet-{size}'s with {blocks} blocks, and this is EfficientNet-B4"
        ):
            timm_keys({prefix + key: value for key, value in published(blocks).items()})


def test_the_sentence_on_its_size_names_the_file(tmp_path):
    torch.save(published(39), tmp_path / "efficientnet-b5.pth")
    sentence = r"efficientnet-b5\.pth does not hold the weights of this network: they are EfficientNet-B5's"
    with pytest.raises(WeightsError, match=sentence):
        build("efficientnetb4", weights=str(tmp_path / "efficientnet-b5.pth"))


@pytest.mark.parametrize("name", ["xception", "efficientnetb4", "resnet34", "capsule_net"])
def test_foreign_weights_for_a_trunk_are_a_sentence(tmp_path, name):
    torch.save({"conv1.weight": torch.zeros(()), "_conv_stem.weight": torch.zeros(()), "conv_stem.weight": torch.zeros(2)},
               tmp_path / "foreign.pth")  # fmt: skip
    with pytest.raises(WeightsError, match=r"foreign\.pth does not hold the weights of this network") as caught:
        build(name, weights=str(tmp_path / "foreign.pth"))
    assert "\n" not in str(caught.value)
