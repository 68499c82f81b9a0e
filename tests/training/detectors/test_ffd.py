"""FFD: agreement with the reference, the map's supervision, gradients, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import ConfigError, WeightsError
from training.detectors.parts.ffd.manipulation_map import AppearanceMap, fit_appearance
from training.detectors.registry import detector_class


@pytest.fixture(scope="module")
def reference():
    return filled(build("ffd"), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference)


def _prediction(rng):
    return {"cls": torch.tensor(rng.normal(size=(4, 2))), "mask": torch.tensor(rng.random((4, 1, 4, 4)))}


def _entropy(cls, label):
    return np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(len(cls)), label])


def _wanted(prediction, mask, label, supervision):
    attention = prediction["mask"].numpy()[:, 0]
    small = mask.reshape(4, 4, 4, 4, 4).mean((2, 4))
    terms = []
    for m, gt, fake in zip(attention, small, label, strict=True):
        weak = abs(m.max() - 0.75) if fake else m.mean()
        if supervision == "weak":
            terms.append(weak)
        elif not fake or gt.any():
            terms.append(np.abs(m - gt).mean())
    return np.mean(terms)


@pytest.mark.parametrize("supervision", ["full", "weak"])
def test_the_maps_loss_is_the_papers(supervision):
    rng = np.random.default_rng(0)
    label, mask = np.array([0, 0, 1, 1]), rng.integers(0, 2, (4, 16, 16))
    mask[:2] = 0
    mask[3] = 0  # a fake whose mask nobody has
    prediction = _prediction(rng)
    detector = build("ffd", supervision=supervision, map_weight=2.0)
    batch = {"label": torch.tensor(label), "mask": torch.tensor(mask, dtype=torch.uint8).unsqueeze(1)}
    losses = {k: float(v) for k, v in detector.get_losses(batch, prediction).items()}
    attention = _wanted(prediction, mask, label, supervision)
    entropy = _entropy(prediction["cls"].numpy(), label)
    assert losses["mask"] == pytest.approx(attention, rel=1e-5)
    assert losses["cls"] == pytest.approx(entropy, rel=1e-5)
    assert losses["overall"] == pytest.approx(entropy + 2 * attention, rel=1e-5)


def test_unknown_masks_count_in_no_loss_and_the_counts_are_the_global_batchs():
    detector, batch = build("ffd"), face_batch(6, 64)
    batch["mask"][batch["label"] == 1] = 0
    prediction = {"cls": torch.zeros(6, 2), "mask": torch.full((6, 1, 4, 4), 0.5, requires_grad=True)}
    assert detector.counts(batch)["mask"] == 3
    detector.get_losses(batch, prediction)["mask"].backward()
    moved = prediction["mask"].grad.flatten(1).any(dim=1)
    assert torch.equal(moved, batch["label"] == 0)
    # Of a batch over two processes, on which nine masks are known, each share divides by its part of the nine.
    alone = detector.get_losses(batch, prediction)["mask"].item()
    shared = detector.get_losses({**batch, "counts": {"mask": torch.tensor(4.5)}}, prediction)["mask"].item()
    assert shared == pytest.approx(alone * 3 / 4.5)
    batch["label"][:] = 1
    none = detector.get_losses(batch, prediction)["mask"]
    assert none == 0
    none.backward()  # and still hangs together with the network, as other processes' does


def test_without_supervision_only_the_class_counts():
    losses = build("ffd", supervision="none").get_losses(
        {"label": torch.tensor([0, 0, 1, 1])}, _prediction(np.random.default_rng(1))
    )
    assert set(losses) == {"overall", "cls"}


def test_masks_are_used_where_they_are_read():
    cls = detector_class("ffd").Config
    assert cls(model_name="ffd").asked_of_map == "full"
    assert cls(model_name="ffd", with_mask=False).asked_of_map == "none"  # the field's file
    assert cls(model_name="ffd", with_mask=False, supervision="weak").asked_of_map == "weak"
    assert cls(model_name="ffd", maptype="none").asked_of_map == "none"


@pytest.mark.parametrize("supervision", ["full", "weak", "none"])
def test_gradients_reach_everything(supervision):
    check_gradients(build("ffd", supervision=supervision), face_batch(6, 64))


def test_learns_a_handful_of_faces():
    assert overfit(build("ffd"), face_batch(6, 64), steps=12, lr=1e-3) == 1.0


def test_learns_where_they_were_changed():
    # The map alone, on features that stay: a linear problem, on which the loss must fall at once.
    detector, batch = build("ffd", map_weight=1.0), face_batch(6, 64)
    detector.requires_grad_(False).map.requires_grad_(True)
    optimizer = torch.optim.Adam(detector.map.parameters(), lr=0.02)
    found = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = detector.get_losses(batch, detector(batch))["mask"]
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.7 * found[0]


def test_the_appearance_model_is_the_principal_components_of_masks():
    rng = np.random.default_rng(2)
    masks = rng.random((30, 4, 4))
    mean, basis = fit_appearance(masks, 5)
    np.testing.assert_allclose(mean, masks.mean(0), atol=1e-6)
    flat = masks.reshape(30, 16) - masks.reshape(30, 16).mean(0)
    values, vectors = np.linalg.eigh(flat.T @ flat)
    for found, wanted in zip(basis.reshape(5, 16), vectors.T[::-1], strict=False):
        assert abs(found @ wanted) == pytest.approx(1, abs=1e-4)
    assert values[0] >= -1e-9
    _, few = fit_appearance(masks[:3], 5)
    assert few.shape == (5, 4, 4)
    assert not few[2:].any()


def test_an_appearance_map_is_read_from_its_file_trains_and_is_kept_with_the_weights(tmp_path):
    mean, basis = fit_appearance(np.random.default_rng(3).random((20, 4, 4)), 3)
    np.savez(tmp_path / "basis.npz", mean=mean, basis=basis)
    keys = {"maptype": "mam", "map_components": 3, "resolution": 64}
    cls = detector_class("ffd")
    detector = cls(cls.Config(model_name="ffd", map_basis=str(tmp_path / "basis.npz"), **keys), pretrained=True)
    np.testing.assert_allclose(detector.map.mean, mean)
    with torch.no_grad():
        features = torch.randn(2, 728, 4, 4)
        weights = detector.map.eval().weights(detector.map.reduce(features)).numpy()
        found = detector.map(features)[:, 0]
    np.testing.assert_allclose(found, mean + np.tensordot(weights, basis, 1), atol=1e-5)
    check_gradients(detector, face_batch(6, 64))
    again = build("ffd", **keys)
    again.load_weights(detector.state_dict())
    torch.testing.assert_close(again.map.basis, detector.map.basis)


def test_mistakes_are_said(reference, tmp_path):
    cls = detector_class("ffd")
    with pytest.raises(ConfigError, match="generate_map_basis"):
        cls(cls.Config(model_name="ffd", maptype="mam"), pretrained=True)
    np.savez(tmp_path / "basis.npz", mean=np.zeros((3, 3)), basis=np.zeros((2, 3, 3)))
    with pytest.raises(WeightsError, match=r"basis\.npz: `mean` has shape \(3, 3\)"):
        AppearanceMap(728, 4, 2).load_appearance(tmp_path / "basis.npz")
    with pytest.raises(WeightsError, match=r"none\.npz cannot be read"):
        AppearanceMap(728, 4, 2).load_appearance(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="with_mask"):
        cls.Config(model_name="ffd", supervision="full", with_mask=False)
    with pytest.raises(WeightsError, match="missing, first `map"):
        reference.load_weights({k: v for k, v in reference.state_dict().items() if not k.startswith("map")})
