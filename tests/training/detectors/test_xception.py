"""Xception: agreement with the reference, the classifier first, and that it can learn."""

import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import WeightsError
from training.detectors.base import Clock


@pytest.fixture(scope="module")
def reference():
    return filled(build("xception"), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-4)


def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "cls"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def test_gradients_reach_everything():
    check_gradients(build("xception"), face_batch(6, 64))


@pytest.mark.parametrize(("step", "moves"), [(0, False), (5, False), (6, True)])
def test_the_classifier_is_trained_alone_for_two_epochs(step, moves):
    detector, batch = build("xception", head_epochs=2), face_batch(4, 64)
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3, weight_decay=0.1)
    before = {name: p.detach().clone() for name, p in detector.named_parameters()}
    detector.get_losses(batch, detector(batch))["overall"].backward()
    detector.after_backward(Clock(step=step, total_steps=30, steps_per_epoch=3))
    optimizer.step()
    moved = {name.split(".")[0] for name, p in detector.named_parameters() if not torch.equal(p, before[name])}
    assert moved == ({"backbone", "head"} if moves else {"head"})


def test_learns_a_handful_of_faces():
    assert overfit(build("xception"), face_batch(6, 64), steps=12, lr=1e-3) == 1.0


def test_other_weights_are_refused(reference):
    state = reference.state_dict() | {"head.weight": torch.zeros(3, 2048)}
    with pytest.raises(WeightsError, match=r"`head\.weight` has shape \(3, 2048\) there and \(2, 2048\) here"):
        reference.load_weights(state)
