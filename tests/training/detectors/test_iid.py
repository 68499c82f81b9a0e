"""IID: agreement with the reference, its three terms, the recogniser's file, who trains, and that it can learn."""

import logging

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import WeightsError
from training.batch import DataInfo
from training.detectors.parts.iid.identity_network import IdentityNetwork, NetworkShape
from training.detectors.registry import build_detector, detector_class

SMALL = {"explicit_extractor": "tiny", "identities": 5}
FILED = NetworkShape((1, 2, 1, 1), (4, 4, 8, 8), 48)


@pytest.fixture(scope="module")
def reference():
    return filled(build("iid", train_extractor=True), prefix="module.")


@pytest.fixture(scope="module")
def small():
    return build("iid", **SMALL)


def people(count=6, size=48, seed=0):
    """Return faces of some people; of one, nobody knows who it is."""
    batch = face_batch(count, size, seed)
    target = torch.arange(count) % 3
    target[-1] = -1
    return {**batch, "target_id": target, "source_id": torch.where(batch["label"] == 1, (target + 2) % 5, -1)}


def write(path, **changes):
    torch.manual_seed(3)
    torch.save(IdentityNetwork(FILED).state_dict() | changes, path)
    return str(path)


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-4, huge=("cls", "id_feat"))


def test_losses_and_gradients_as_the_reference(reference):
    names = {"overall": "overall", "cls": "loss_bce", "iie": "loss_iie", "eic": "loss_eic"}
    check_losses(reference, names, lambda batch: {"target_id": batch["id_index"]}, tolerance=1e-4)
    # What the reference trains not either: ArcFace holds the last normalisation's gain at 1.
    assert [n for n, p in reference.named_parameters() if p.grad is None] == ["extractor.features.weight"]


def unit(x, axis):
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def with_margin(cosine, margin):
    """Return cos(θ + m), and beyond θ = π − m its linear continuation."""
    angle = np.arccos(cosine)
    return np.where(angle < np.pi - margin, np.cos(angle + margin), cosine - margin * np.sin(margin))


def entropy(logits, label):
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(label)), label]


def test_the_three_terms_are_what_the_docstring_says(small):
    batch, rng = people(), np.random.default_rng(0)
    label, person = batch["label"].numpy(), batch["target_id"].numpy()
    cls, implicit, explicit = rng.normal(size=(6, 2)), rng.normal(size=(6, 512)), rng.normal(size=(6, 512))
    weight = small.iie.weight.detach().double().numpy()
    implicit[0] = -8 * weight[0]  # of the opposite direction: the margin's far branch
    values = {"cls": cls, "embed": implicit, "id_feat": explicit}
    with torch.no_grad():
        losses = small.get_losses(batch, {key: torch.tensor(value) for key, value in values.items()})
    classes = entropy(8 * (1 / (1 + np.exp(-cls)) - 0.2 * np.eye(2)[label]), label).mean()
    known = person >= 0
    cosine = (unit(implicit, 1) @ unit(weight, 1).T)[known]
    own = np.eye(5)[person[known]] == 1
    identity = entropy(64 * np.where(own, with_margin(cosine, 0.4), cosine), person[known]).mean()
    alike = (unit(implicit, 1) * unit(explicit, 1)).sum(1)
    contrast = alike[label == 1].mean() - alike[label == 0].mean()
    assert float(losses["cls"]) == pytest.approx(classes, rel=1e-5)
    assert float(losses["iie"]) == pytest.approx(identity, rel=1e-4)
    assert float(losses["eic"]) == pytest.approx(contrast, rel=1e-4)
    assert float(losses["overall"]) == pytest.approx(classes + 0.05 * identity + 0.1 * contrast, rel=1e-4)


def test_who_a_fake_is(small):
    batch = people()
    assert small.person(batch).tolist() == [0, 1, 2, 0, 1, -1]
    source = build("iid", **SMALL, identity="source")
    assert source.person(batch).tolist() == [0, 1, 2, *batch["source_id"][3:].tolist()]


@pytest.mark.parametrize("label", [0, 1])
def test_a_batch_of_one_class_or_of_strangers_has_losses(small, label):
    batch = people()
    batch |= {"label": torch.full((6,), label), "target_id": torch.full((6,), -1)}
    with torch.no_grad():
        losses = small.eval().get_losses(batch, small(batch))
    assert all(torch.isfinite(value) for value in losses.values())
    assert float(losses["iie"]) == 0


def test_gradients_reach_all_but_the_recogniser(small):
    check_gradients(small, people())
    trained = {name.partition(".")[0] for name, p in small.named_parameters() if p.requires_grad}
    assert trained == {"backbone", "adjust", "head", "iie"}


def test_the_recogniser_stays_as_it_is_in_training(small):
    before = {key: value.clone() for key, value in small.extractor.state_dict().items()}
    small.train()(people())
    assert all(torch.equal(value, before[key]) for key, value in small.extractor.state_dict().items())


def test_the_recogniser_trains_where_asked():
    detector = build("iid", **SMALL, train_extractor=True)
    check_gradients(detector, people())
    assert int(detector.extractor.bn1.num_batches_tracked) == 1


def test_learns_a_handful_of_faces():
    assert overfit(build("iid", **SMALL), people(), steps=15, lr=1e-3) == 1.0


def test_an_image_alone_gets_the_answer_that_it_gets_in_company(small):
    image = people()["image"]
    with torch.no_grad():
        both, alone = (small.eval()({"image": part}, inference=True)["cls"][:1] for part in (image, image[:1]))
    torch.testing.assert_close(alone, both, rtol=1e-4, atol=1e-4)


def test_the_recogniser_comes_from_a_file_which_tells_its_shape(tmp_path):
    file = write(tmp_path / "backbone.pth")
    cls = detector_class("iid")
    detector = cls(cls.Config(model_name="iid", explicit_extractor_pretrained=file, identities=5))
    assert detector.extractor.shape == FILED
    wanted = torch.load(file, weights_only=True)
    assert all(torch.equal(value, wanted[key]) for key, value in detector.extractor.state_dict().items())
    # A detector that is built for a test has no such file: its own weights bring the recogniser.
    again = build("iid", explicit_extractor="iresnet18", identities=7)
    again.load_weights(detector.state_dict())
    assert again.extractor.shape == detector.extractor.shape
    assert len(again.iie.weight) == 5
    assert not any(p.requires_grad for p in again.extractor.parameters())
    image = people()["image"]
    with torch.no_grad():
        found, asked = (d.eval()({"image": image}, inference=True)["prob"] for d in (again, detector))
    torch.testing.assert_close(found, asked)


def test_without_the_file_one_sentence_says_what_to_put_where():
    with pytest.raises(WeightsError, match=r"explicit_extractor_pretrained: there is no file `nowhere\.pth`") as caught:
        build_detector(detector_class("iid").Config(model_name="iid", explicit_extractor_pretrained="nowhere.pth"))
    assert "\n" not in str(caught.value)
    assert "training/pretrained" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fc.weight": torch.zeros(256, 72)}, "256 × 72"),
        ({"fc.weight": torch.zeros(512, 70)}, "512 × 70"),
        ({"layer4.0.conv2.weight": torch.zeros(0, 8, 3, 3)}, "does not hold the weights"),
        ({"layer2.1.bn1.weight": torch.zeros(3)}, r"layer2\.1\.bn1\.weight"),
    ],
)
def test_another_file_is_refused(tmp_path, changes, said):
    file = write(tmp_path / "other.pth", **changes)
    with pytest.raises(WeightsError, match=said):
        build_detector(detector_class("iid").Config(model_name="iid", explicit_extractor_pretrained=file))


def test_people_are_those_of_the_training_data(caplog):
    cls = detector_class("iid")
    config = cls.Config(model_name="iid", **SMALL)
    assert len(cls(config, DataInfo(identities={"a": 0, "b": 1, "c": 2}), pretrained=False).iie.weight) == 3
    with caplog.at_level(logging.WARNING):
        nobody = cls(config, DataInfo(), pretrained=False)
    assert "name 0 people" in caplog.text
    batch = people()
    assert nobody.get_losses(batch, nobody(batch)).keys() == {"overall", "cls", "eic"}
    # Published weights know 1000 people, whom prediction does not need.
    nobody.load_weights(build("iid", **SMALL).state_dict())


def test_the_fields_file_is_read():
    assert detector_class("iid").Config(model_name="iid", dataset_type="iid").dataset_type is None
