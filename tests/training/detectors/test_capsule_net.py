"""Capsule-Forensics: agreement with the reference, its losses, randomness in training only, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch
from torchvision.models.vgg import cfgs, make_layers

from common.errors import WeightsError
from training.detectors.parts.capsule_net.network import DynamicRouting, squash

REFERENCE = {"loss_func": "capsule_loss", "freeze_vgg": False, "routing_noise": 0, "routing_dropout": 0}


@pytest.fixture(scope="module")
def reference():
    return filled(build("capsule_net", **REFERENCE), prefix="module.")


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def capsules(seed=0, count=5):
    return np.random.default_rng(seed).normal(size=(count, 4, 2)) / 3, torch.tensor([0, 1, 1, 0, 1][:count])


def prediction(values):
    values = torch.tensor(values)
    return {"classes": values.softmax(2), "length": values.norm(dim=1)}


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-5)


def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-5)
    assert all(p.grad is not None for p in reference.parameters())
    # A norm of 1e-5 is within any tolerance of nothing: here it is compared as such.
    norm = torch.stack([p.grad.double().norm() for p in reference.parameters()]).norm()
    assert float(norm) == pytest.approx(1.4545752e-05, rel=1e-3)


def test_terms_are_the_papers():
    values, label = capsules()
    losses = build("capsule_net", margin_weight=0.7).get_losses({"label": label}, prediction(values))
    rows, own = np.arange(5), label.numpy()
    cls = -np.log(softmax(values, 2).mean(1)[rows, own]).mean()
    length = np.sqrt((values**2).sum(1))
    margin = np.maximum(0, 0.9 - length[rows, own]) ** 2 + 0.5 * np.maximum(0, length[rows, 1 - own] - 0.1) ** 2
    assert float(losses["cls"]) == pytest.approx(cls, rel=1e-5)
    assert float(losses["margin"]) == pytest.approx(margin.mean(), rel=1e-5)
    assert float(losses["overall"]) == pytest.approx(cls + 0.7 * margin.mean(), rel=1e-5)


def test_the_references_term_takes_the_softmax_twice():
    values, label = capsules()
    losses = build("capsule_net", **REFERENCE).get_losses({"label": label}, prediction(values))
    twice = softmax(softmax(values, 2), 2)
    expected = -np.log(twice[np.arange(5)[:, None], np.arange(4), label.numpy()[:, None]]).sum(1).mean()
    assert set(losses) == {"overall", "cls"}
    assert float(losses["overall"]) == pytest.approx(expected, rel=1e-5)


def test_squash_keeps_direction_and_bounds_length():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.3, -0.4]], requires_grad=True)
    y = squash(x, dim=1)
    expected = [[0.6 * 25 / 26, 0.8 * 25 / 26], [0, 0], [0.6 * 0.2, -0.8 * 0.2]]
    torch.testing.assert_close(y.detach(), torch.tensor(expected))
    y.sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_routing_follows_agreement(iterations):
    """Against plain loops over capsules."""
    torch.manual_seed(0)
    routing = DynamicRouting(primary=3, classes=2, size=4, iterations=iterations, noise=0, dropout=0)
    x, weights = torch.randn(2, 8, 3), routing.route_weights.detach().numpy().astype(float)
    out = routing(x).detach().numpy()
    for image in range(2):
        for cls in range(2):
            votes = np.stack([weights[cls, p] @ x[image, :, p].numpy() for p in range(3)])  # (3, 4)
            logits = np.zeros_like(votes)
            for _ in range(iterations):
                total = (softmax(logits, 0) * votes).sum(0)
                norm = np.linalg.norm(total)
                capsule = total / norm * norm**2 / (1 + norm**2)
                logits = logits + votes * capsule
            np.testing.assert_allclose(out[image, :, cls], capsule, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "keys", [{"routing_noise": 0.1, "routing_dropout": 0}, {"routing_noise": 0, "routing_dropout": 0.3}]
)
def test_random_in_training_and_deterministic_in_evaluation(keys):
    detector, batch = build("capsule_net", **keys), face_batch(4, 32)
    feat = torch.randn(4, 8, 10)
    assert not torch.equal(detector.routing(feat), detector.routing(feat))
    detector.eval()
    with torch.no_grad():
        first, second = (detector(batch, inference=True) for _ in range(2))
    assert torch.equal(first["cls"], second["cls"])
    torch.testing.assert_close(first["cls"].sum(1), torch.ones(4))


def test_vgg_is_frozen_with_its_weights_and_trained_without(tmp_path):
    torch.manual_seed(1)
    published = make_layers(cfgs["E"]).state_dict()
    state = {f"features.{key}": value for key, value in published.items()} | {"classifier.0.weight": torch.ones(2, 2)}
    torch.save(state, tmp_path / "vgg19.pth")
    detector = build("capsule_net", weights=str(tmp_path / "vgg19.pth"))
    torch.testing.assert_close(
        dict(detector.vgg.state_dict()), {k: v for k, v in published.items() if int(k.split(".")[0]) < 19}
    )
    frozen = {name.split(".")[0] for name, p in detector.named_parameters() if not p.requires_grad}
    assert frozen == {"vgg"}
    check_reached(detector)
    assert all(p.requires_grad for p in build("capsule_net").parameters())


def check_reached(detector):
    # Biases before a BatchNorm cancel out: their gradients are rounding errors, here and there exactly 0, so that
    # what is looked for is a finite gradient, and for kernels and weights one that is not 0.
    batch = face_batch(6, 32)
    detector.get_losses(batch, detector(batch))["overall"].backward()
    for name, parameter in detector.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.any() or name.endswith("bias"), name


def test_gradients_reach_everything():
    check_reached(build("capsule_net"))


def test_learns_a_handful_of_faces():
    assert overfit(build("capsule_net"), face_batch(6, 32), steps=12, lr=1e-3) == 1.0


def test_other_weights_are_refused(reference):
    state = {key: value for key, value in reference.state_dict().items() if key != "routing.route_weights"}
    with pytest.raises(WeightsError, match=r"missing, first `routing\.route_weights"):
        reference.load_weights(state)
