"""UCF: agreement with the reference, its four terms, pairs and shuffles, gradients, and that it can learn."""

import logging

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import WeightsError
from training.batch import DataInfo
from training.detectors.parts.ucf.contrastive_loss import shuffle_within
from training.detectors.parts.ucf.decoder import ConditionalDecoder, adain
from training.detectors.registry import detector_class

STILL = {"drop_rate": 0.0, "shuffle_prob": 0.0}


@pytest.fixture(scope="module")
def reference():
    return filled(build("ucf"), prefix="module.")


@pytest.fixture(scope="module")
def plain():
    """Random weights, nothing random in training but the decoder's dropout."""
    return build("ucf", specific_classes=3, **STILL)


def pairs(count=3, size=64, seed=0):
    """Return a role-major batch: real faces, then fake ones of two methods."""
    batch = face_batch(2 * count, size, seed)
    method = batch["label"] * (1 + torch.arange(2 * count) % 2)
    return {**batch, "method": method, "roles": 2}


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-5)


def test_losses_and_gradients_as_the_reference(reference):
    names = ("overall", "common", "specific", "reconstruction", "contrastive")
    check_losses(
        reference, dict(zip(names, names, strict=True)), lambda batch: {"method": batch["label_spe"]}, tolerance=1e-4
    )
    assert all(p.grad is not None for p in reference.parameters())


def entropy(cls, label):
    return np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(len(cls)), label])


def contrast(feature, group, seed):
    """Return the sum of both halves' hinges, in the order that the seed's first draws give."""
    peer, half = feature[shuffle_within(group).numpy()], len(feature) // 2
    total = 0.0
    for own, other in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
        near = np.linalg.norm(feature[own] - peer[own], axis=1)
        far = np.linalg.norm(feature[own] - peer[other], axis=1)
        total += np.maximum(0, near - far + 3).mean()
    return total


def test_the_sum_is_the_papers(plain):
    batch, rng = pairs(), np.random.default_rng(0)
    label, method = batch["label"].numpy(), batch["method"].numpy()
    shapes = {"cls": (6, 2), "cls_spe": (6, 3), "feat": (6, 256), "feat_spe": (6, 256)}
    shapes |= dict.fromkeys(("self_reconstruction", "cross_reconstruction"), (6, 3, 64, 64))
    values = {key: rng.normal(size=shape) / 8 for key, shape in shapes.items()}
    torch.manual_seed(1)
    losses = plain.get_losses(batch, {key: torch.tensor(value) for key, value in values.items()})
    torch.manual_seed(1)
    contrastive = contrast(values["feat"], batch["label"], 1) + contrast(values["feat_spe"], batch["method"], 1)
    image = batch["image"].numpy()
    reconstruction = sum(
        np.abs(values[f"{kind}_reconstruction"] - image)[half].mean()
        for kind in ("self", "cross")
        for half in (slice(0, 3), slice(3, 6))
    )
    common, specific = entropy(values["cls"], label), entropy(values["cls_spe"], method)
    assert float(losses["common"]) == pytest.approx(common, rel=1e-5)
    assert float(losses["specific"]) == pytest.approx(specific, rel=1e-5)
    assert float(losses["reconstruction"]) == pytest.approx(reconstruction, rel=1e-5)
    assert float(losses["contrastive"]) == pytest.approx(contrastive, rel=1e-4)
    wanted = common + 0.1 * specific + 0.3 * reconstruction + 0.05 * contrastive
    assert float(losses["overall"]) == pytest.approx(wanted, rel=1e-4)


def test_statistics_are_taken_over():
    rng = np.random.default_rng(0)
    content, style = rng.normal(size=(2, 3, 4, 4)), 3 * rng.normal(size=(2, 3, 5, 5)) + 1
    found = adain(torch.tensor(content), torch.tensor(style)).numpy()
    mean, deviation = (f(style, axis=(2, 3), keepdims=True) for f in (np.mean, lambda x, **k: np.std(x, ddof=1, **k)))
    own = (content - content.mean((2, 3), keepdims=True)) / content.std((2, 3), ddof=1, keepdims=True)
    np.testing.assert_allclose(found, own * deviation + mean, atol=1e-4)


def test_a_picture_is_drawn_from_any_fingerprint():
    torch.manual_seed(0)
    decoder = ConditionalDecoder(16).eval()
    first, second, content = torch.randn(3, 1, 16, 2, 2)
    with torch.no_grad():
        drawn = decoder(first, content, (13, 20))
        assert drawn.shape == (1, 3, 13, 20)
        assert drawn.abs().max() < 1
        assert not torch.allclose(drawn, decoder(second, content, (13, 20)))


def test_fingerprints_change_places_within_a_pair(reference):
    batch = pairs()
    batch["image"] = torch.cat([batch["image"][:3]] * 2)  # a fake that is its own real face: the swap changes nothing
    reference.eval()
    with torch.no_grad():
        same, different = reference(batch), reference(pairs())
    torch.testing.assert_close(same["self_reconstruction"], same["cross_reconstruction"])
    change = different["self_reconstruction"] - different["cross_reconstruction"]
    assert change.abs().amax((1, 2, 3)).min() > 1e-3


def test_common_features_are_shuffled_within_class_within_their_class_in_training_only():
    always, batch = build("ucf", drop_rate=0.0, shuffle_prob=1.0), pairs(4)
    # BatchNorm by running statistics, so that a row depends on its own image alone.
    for module in always.train().modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        dealt = always(batch)["feat"]
        settled = always.eval()(batch)["feat"]
    distance = torch.cdist(dealt, settled)
    came_from = distance.argmin(1)
    assert distance.min(1).values.max() < 1e-4
    assert sorted(came_from.tolist()) == list(range(8))
    assert came_from.tolist() != list(range(8))
    assert torch.equal(batch["label"][came_from], batch["label"])


def test_gradients_reach_everything(plain):
    check_gradients(plain, pairs())


def test_learns_a_handful_of_faces():
    assert overfit(build("ucf", specific_classes=3, **STILL), pairs(), steps=12, lr=1e-3) == 1.0


def test_the_specific_head_knows_the_training_datas_methods():
    cls = detector_class("ucf")
    info = DataInfo(manipulations={"real": 0, "swap": 1, "paint": 2, "warp": 3, "blur": 4, "melt": 5})
    assert cls(cls.Config(model_name="ucf"), info, pretrained=False).classes == 6
    assert cls.Config(model_name="ucf", label_dict={"FF-real": 0, "FF-DF": 1, "FF-NT": 4}).label_dict["FF-NT"] == 1


def test_pictures_too_small_for_statistics_are_refused():
    with pytest.raises(ValueError, match=r"at resolution 32 .* take 48 or more"):
        build("ucf", resolution=32)


def test_published_weights_bring_their_classes(caplog):
    with caplog.at_level(logging.WARNING):
        detector = filled(build("ucf", specific_classes=3))
    assert "know 5 kinds" in caplog.text
    assert detector.specific_head.mlp[2].out_features == 5


def test_prediction_needs_the_common_half_alone(reference):
    batch = pairs(1)
    with torch.no_grad():
        full = reference.eval()(batch)["prob"]
        state = {
            k: v for k, v in reference.state_dict().items() if k.split(".")[0] in ("forgery", "common", "common_head")
        }
        slim = build("ucf")
        slim.load_weights(state)
        torch.testing.assert_close(slim.eval()({"image": batch["image"]}, inference=True)["prob"], full)


def test_other_weights_are_refused(reference):
    state = {key: value for key, value in reference.state_dict().items() if not key.startswith("common.")}
    with pytest.raises(WeightsError, match=r"missing, first `common\."):
        reference.load_weights(state)
