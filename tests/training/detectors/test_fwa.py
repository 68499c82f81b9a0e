"""FWA: agreement with the reference, gradients, and that it can learn."""

import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch
from parity.fill import fill_state_dict, load_golden

from common.errors import ConfigError, WeightsError


@pytest.fixture(scope="module")
def reference():
    return filled(build("fwa"))


def test_answers_as_the_reference(reference):
    check_outputs(reference)


def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"})
    assert all(p.grad is not None for p in reference.parameters())


def test_gradients_reach_everything():
    check_gradients(build("fwa"), face_batch(6, 64))


def test_learns_a_handful_of_faces():
    assert overfit(build("fwa"), face_batch(6, 64), steps=12, lr=1e-3) == 1.0


def test_weights_of_ddp_runs_and_with_dropout_load_too():
    golden = load_golden("fwa")
    state = fill_state_dict(golden["keys"], skip=golden["not_filled"])
    plain, wrapped = build("fwa"), build("fwa", backbone_config={"dropout": 0.5})
    plain.load_weights(state)
    wrapped.load_weights({"module." + key.replace("last_linear.", "last_linear.1."): v for key, v in state.items()})
    torch.testing.assert_close(plain.state_dict(), wrapped.state_dict())


def test_the_imagenet_file_starts_the_trunk(tmp_path):
    state = build("fwa").backbone.state_dict()
    # The published file keeps pointwise kernels as matrices, and its classifier under another name.
    published = {k: v[..., 0, 0] if "pointwise" in k else v for k, v in state.items()} | {
        "fc.weight": torch.ones(1000, 2048)
    }
    torch.save(published, tmp_path / "xception-b5690688.pth")
    started = build("fwa", weights=str(tmp_path / "xception-b5690688.pth"))
    torch.testing.assert_close(started.backbone.state_dict(), state)


def test_mistakes_are_said(reference, tmp_path):
    torch.save({"conv1.weight": torch.ones(32, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth does not hold the weights of this network"):
        build("fwa", weights=str(tmp_path / "other.pth"))
    with pytest.raises(WeightsError, match="nor a tag of legacy_xception"):
        build("fwa", weights="resnet50")
    with pytest.raises(WeightsError, match="missing"):
        reference.load_weights({k: v for k, v in reference.state_dict().items() if k != "head.bias"})
    with pytest.raises(ConfigError, match="inc 4"):
        build("fwa", backbone_config={"inc": 4})
