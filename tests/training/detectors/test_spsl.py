"""SPSL: agreement with the reference, the phase's picture, both depths, gradients, and that it can learn."""

import logging

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import WeightsError
from training.detectors.parts.spsl import phase_image

WHOLE = {"backbone_config": {"mode": "original", "inc": 4}}


@pytest.fixture(scope="module")
def reference():
    return filled(build("spsl", **WHOLE), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-5)


def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def test_the_phase_draws_the_picture_of_amplitude_1():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 3, 16, 12))
    spectrum = np.fft.fft2(image.mean(1))
    wanted = np.fft.ifft2(spectrum / np.abs(spectrum)).real
    found = phase_image(torch.tensor(image))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[:, 0], wanted, atol=1e-5)
    np.testing.assert_allclose((wanted**2).mean((1, 2)), 1 / (16 * 12), rtol=1e-6)
    # Only the phase counts: another contrast changes nothing, another place of the picture moves it along.
    torch.testing.assert_close(phase_image(torch.tensor(7 * image)), found, atol=1e-5, rtol=0)
    moved = phase_image(torch.tensor(np.roll(image, 3, axis=3)))
    torch.testing.assert_close(moved, found.roll(3, dims=3), atol=1e-5, rtol=0)


def test_the_shallow_network_is_the_papers_default(reference):
    detector = build("spsl")
    assert not any(".block4." in name or ".block11." in name for name in detector.state_dict())
    assert sum(p.numel() for p in detector.parameters()) < 0.4 * sum(p.numel() for p in reference.parameters())


def test_published_weights_bring_their_depth(caplog, reference):
    detector = build("spsl")
    with caplog.at_level(logging.WARNING):
        filled(detector)
    assert "the whole Xception" in caplog.text
    image = face_batch(2, 64)["image"]
    with torch.no_grad():
        torch.testing.assert_close(detector({"image": image})["cls"], reference.eval()({"image": image})["cls"])


def test_the_cross_entropy_is_numpys():
    cls, label = np.random.default_rng(0).normal(size=(4, 2)), np.array([0, 1, 1, 0])
    losses = build("spsl").get_losses({"label": torch.tensor(label)}, {"cls": torch.tensor(cls)})
    wanted = np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(4), label])
    assert float(losses["cls"]) == pytest.approx(wanted, rel=1e-5)
    assert float(losses["overall"]) == pytest.approx(wanted, rel=1e-5)


def test_gradients_reach_everything():
    check_gradients(build("spsl"), face_batch(6, 64))


def test_learns_a_handful_of_faces():
    assert overfit(build("spsl"), face_batch(6, 64), steps=15, lr=1e-3) == 1.0


def test_other_weights_are_refused(reference):
    state = {key: value for key, value in reference.state_dict().items() if "block12" not in key}
    with pytest.raises(WeightsError, match=r"missing, first `backbone\.block12"):
        reference.load_weights(state)
    colours = reference.state_dict() | {"backbone.conv1.weight": torch.zeros(32, 3, 3, 3)}
    with pytest.raises(WeightsError, match=r"`backbone\.conv1\.weight` has shape \(32, 3, 3, 3\) there"):
        reference.load_weights(colours)
