"""CNN-Aug: agreement with the reference, its trunk's weights, and that it can learn."""

import pytest
import torch
import torchvision
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR


@pytest.fixture(scope="module")
def reference():
    return filled(build("resnet34"), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-4)


def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def test_gradients_reach_everything():
    check_gradients(build("resnet34"), face_batch(6, 64))


@pytest.mark.parametrize("trunk", ["resnet34", "resnet50"])
def test_torchvisions_file_starts_the_trunk(trunk, tmp_path):
    torch.manual_seed(1)
    published = getattr(torchvision.models, trunk)(weights=None).eval()
    torch.save(published.state_dict(), tmp_path / "published.pth")
    detector = build("resnet34", weights=str(tmp_path / "published.pth"), backbone_name=trunk).eval()
    image = face_batch(2, 64)["image"]
    published.fc = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(detector.features(image).mean((2, 3)), published(image), rtol=1e-4, atol=1e-5)


def test_the_recipe_is_the_papers():
    config = load_config(CONFIG_DIR / "detector" / "resnet34.yaml")
    aug = config.data_aug
    assert (aug.blur_prob, aug.compress_prob, aug.quality_lower, aug.quality_upper) == (0.5, 0.5, 30, 100)
    assert (config.optimizer.adam.lr, config.train_batchSize) == (1e-4, 64)


def test_learns_a_handful_of_faces():
    assert overfit(build("resnet34"), face_batch(6, 64), steps=15, lr=3e-4) == 1.0


def test_other_weights_are_refused(reference):
    with pytest.raises(WeightsError, match="has shape"):
        build("resnet34", backbone_name="resnet50").load_weights(reference.state_dict())
    del (state := dict(reference.state_dict()))["head.bias"]
    with pytest.raises(WeightsError, match=r"missing, first `head\.bias"):
        reference.load_weights(state)
