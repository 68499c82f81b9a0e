"""CORE: agreement with the reference, its two terms, gradients, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import WeightsError


@pytest.fixture(scope="module")
def reference():
    return filled(build("core", consistency_weight=1.0), prefix="module.")


def two_views(seed=0):
    """Return a role-major batch: six faces, and the same six mirrored."""
    batch = face_batch(6, 64, seed)
    image = torch.cat([batch["image"], batch["image"].flip(-1)])
    return {"image": image, "label": batch["label"].repeat(2), "roles": 2}


def test_answers_as_the_reference(reference):
    check_outputs(reference)


def test_losses_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def test_both_terms_are_the_papers():
    detector, batch = build("core").eval(), two_views()
    rng = np.random.default_rng(0)
    feat, cls = rng.random((12, 2048)), rng.normal(size=(12, 2))
    losses = detector.get_losses(batch, {"cls": torch.tensor(cls), "core_feat": torch.tensor(feat)})
    first, second = feat[:6], feat[6:]
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    consistency = ((1 - cosine) ** 2).mean()
    entropy = np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(12), batch["label"].numpy()])
    assert float(losses["consistency"]) == pytest.approx(consistency, rel=1e-3)
    assert float(losses["cls"]) == pytest.approx(entropy, rel=1e-5)
    assert float(losses["overall"]) == pytest.approx(entropy + 100 * consistency, rel=1e-3)


def test_equal_views_agree():
    detector, batch = build("core").eval(), two_views()
    batch["image"] = torch.cat([batch["image"][:6]] * 2)
    with torch.no_grad():
        assert float(detector.get_losses(batch, detector(batch))["consistency"]) < 1e-10


def test_gradients_reach_everything():
    check_gradients(build("core"), two_views())


def test_learns_a_handful_of_faces():
    assert overfit(build("core"), two_views(), steps=12, lr=1e-3) == 1.0


def test_other_weights_are_refused(reference):
    state = {key: value for key, value in reference.state_dict().items() if "block12" not in key}
    with pytest.raises(WeightsError, match=r"missing, first `backbone\.block12"):
        reference.load_weights(state)
