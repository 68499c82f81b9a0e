"""EfficientNet-B4: agreement with the reference, its trunk's weights, and that it can learn."""

import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch
from timm.layers import DropPath

from common.errors import ConfigError, WeightsError


@pytest.fixture(scope="module")
def reference():
    return filled(build("efficientnetb4"), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-4)


def test_loss_and_gradients_as_the_reference(reference, monkeypatch):
    # The figures were taken with stochastic depth at work, drawn by the reference's rule from seed 0: floor(keep + u), u uniform.
    def reference_draw(self, x):
        keep = 1 - self.drop_prob
        return x / keep * torch.floor(keep + torch.rand(len(x), 1, 1, 1))

    monkeypatch.setattr(DropPath, "forward", reference_draw)
    torch.manual_seed(0)
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def test_gradients_reach_everything():
    check_gradients(build("efficientnetb4"), face_batch(6, 64))


def test_learns_a_handful_of_faces():
    detector = build("efficientnetb4", backbone_config={"drop_path": 0.0})
    assert overfit(detector, face_batch(6, 64), steps=12, lr=1e-3) == 1.0


def test_other_weights_are_refused(reference):
    state = {key: value for key, value in reference.state_dict().items() if "conv_head" not in key}
    with pytest.raises(WeightsError, match=r"missing, first `backbone\.conv_head\.weight"):
        reference.load_weights(state)
    with pytest.raises(ConfigError, match="adjust_channel"):
        build("efficientnetb4", backbone_config={"mode": "adjust_channel"})
