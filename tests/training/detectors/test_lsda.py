"""LSDA: agreement with the reference, its terms, gradients, what a group's randomness follows from, and that it can learn."""

import logging

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, filled, losses_of, overfit
from helpers.faces import face_batch
from helpers.training_runs import check_resume
from parity.fill import load_golden, make_input

from common.errors import ConfigError, DataError, WeightsError
from training.batch import DataInfo
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors.parts.lsda.encoder import Encoder
from training.detectors.registry import detector_class

SMALL = {"teacher": "test_efficientnet", "student": "test_efficientnet", "real_encoder": "test_efficientnet"}
PUBLISHED = {"real_pretrained": None}


def small(**keys):
    return build("lsda", **{**SMALL, "domains": 2, **keys})


def groups(count=3, kinds=2, size=64, seed=0):
    """Return a role-major batch of real faces and so many kinds of fakes."""
    faces = face_batch(2 * count * kinds, size, seed)
    real, fake = faces["image"][:count], faces["image"][count * kinds :]
    tint = torch.linspace(-0.2, 0.2, kinds).repeat_interleave(count)[:, None, None, None]
    label = torch.tensor([0] * count + [1] * (count * kinds))
    chance = torch.arange(count).repeat(kinds + 1)
    return {"image": torch.cat([real, fake + tint]), "label": label, "roles": kinds + 1, "chance": chance}


def test_answers_as_the_reference():
    detector, golden = filled(build("lsda", **PUBLISHED), prefix="module."), load_golden("lsda")
    with torch.inference_mode():
        answer = detector({"image": make_input(golden["input_shape"])}, inference=True)
    for key, wanted in golden["outputs"].items():
        assert list(answer[key].shape) == wanted["shape"]
        np.testing.assert_allclose(answer[key].flatten().numpy(), wanted["first"], atol=1e-5)
    assert answer["student"].shape == (2, 512, 8, 8)


@pytest.mark.parametrize("real_weight", [0.0, 2.5])
def test_the_sum_is_the_papers(real_weight):
    info = DataInfo(manipulations={"real": 0, "FF-DF": 1, "FF-F2F": 2})
    detector = detector_class("lsda")(
        detector_class("lsda").Config(
            model_name="lsda", **SMALL, domains=2, real_weight=real_weight, keeps_identity=["FF-F2F"]
        ),
        info,
        pretrained=False,
    )
    rng, batch = np.random.default_rng(0), groups()
    cls, cls_domain = rng.normal(size=(9, 2)), rng.normal(size=(9, 3))
    student, teacher = rng.normal(size=(2, 9, 4, 2, 2))
    near = rng.uniform(-1, 1, size=(2, 3))
    values = {
        "cls": cls,
        "cls_domain": cls_domain,
        "student": student,
        "teacher": teacher,
        "similarity": near,
    }
    losses = losses_of(detector, batch, {key: torch.tensor(value) for key, value in values.items()})

    def entropy(logits, label):
        return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(9), label])

    wanted = {
        "cls": entropy(cls, batch["label"].numpy()),
        "domain": entropy(cls_domain, np.repeat([0, 1, 2], 3)),
        "distillation": ((student[:3] - teacher[:3]) ** 2).mean() + ((student[3:] - teacher[3:]) ** 2).mean(),
    }
    total = 0.5 * wanted["cls"] + wanted["domain"] + wanted["distillation"]
    if real_weight:
        wanted["real"] = (1 - near[1]).mean() - (1 - near[0]).mean()
        total += real_weight * wanted["real"]
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(
        {"overall": total, **wanted}, rel=1e-5
    )


def test_every_domain_has_its_teacher_and_the_student_comes_to_their_maps():
    detector, batch = small().eval(), groups()
    with torch.no_grad():
        answer = detector(batch)
        roles = batch["image"].unflatten(0, (3, 3))
        real, forged = detector.real(roles[0]), [t(x) for t, x in zip(detector.teachers, roles[1:], strict=True)]
        torch.testing.assert_close(answer["cls_domain"], detector.domain_head(torch.cat([real, *forged])))
        torch.testing.assert_close(answer["teacher"][:3], real)
        torch.testing.assert_close(answer["student"], detector.student(batch["image"]))
    assert answer["teacher"].shape == answer["student"].shape == (9, 512, 2, 2)


def test_what_is_random_about_a_group_comes_with_its_data():
    detector, batch = small().eval(), groups()
    with torch.no_grad():
        first, again = detector(batch)["teacher"], detector(batch)["teacher"]
        other = detector({**batch, "chance": batch["chance"] + 10})["teacher"]
        torch.manual_seed(0)
        drawn = detector({key: value for key, value in batch.items() if key != "chance"})["teacher"]
    assert torch.equal(first, again)
    assert torch.equal(first[:3], other[:3])
    assert not torch.allclose(first[3:], other[3:])
    assert not torch.allclose(first[3:], drawn[3:])


@pytest.mark.parametrize("real_weight", [0.0, 1.0])
def test_gradients_reach_everything(real_weight):
    detector = build("lsda", **SMALL, real_weight=real_weight)
    check_gradients(detector, groups(kinds=4))


def test_a_recognisers_first_stages_stay_as_they_came(tmp_path):
    file = tmp_path / "backbone.pth"
    keys = {**SMALL, "real_encoder": "iresnet18", "domains": 1}
    published = build("lsda", **keys, real_pretrained=None).real
    torch.save({**published.state_dict(), "fc.weight": torch.zeros(512, 25088)}, file)
    config = detector_class("lsda").Config(model_name="lsda", **keys, real_pretrained=str(file), real_frozen=3)
    detector = detector_class("lsda")(config)
    before = {key: value.clone() for key, value in detector.real.state_dict().items()}
    torch.testing.assert_close(before, dict(published.state_dict()), rtol=0, atol=0)
    check_gradients(detector, groups(kinds=1, size=32))
    trained = {name.split(".")[0] for name, p in detector.real.named_parameters() if p.requires_grad}
    moved = {key for key, value in detector.real.state_dict().items() if not torch.equal(value, before[key])}
    assert trained == {"layer4", "bn2"}
    assert {key.split(".")[0] for key in moved} == {"layer4", "bn2"}  # BatchNorm's statistics
    assert all(p.requires_grad for p in published.parameters())
    with pytest.raises(WeightsError, match=r"real_pretrained: there is no file .*null"):
        detector_class("lsda")(config.model_copy(update={"real_pretrained": "nowhere.pth"}))


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    # A group a step, 3 steps an epoch: the run is cut in the middle of the second.
    check_resume(tmp_path, "lsda", 5, 4, train_batchSize=3, resolution=64, **SMALL)


def test_learns_a_handful_of_faces():
    assert overfit(small(), groups(4), steps=25, lr=3e-3) == 1.0


def test_published_weights_bring_their_kinds(caplog):
    other = build("lsda", **SMALL, domains=3)
    with caplog.at_level(logging.WARNING):
        detector = small()
        detector.load_weights(other.state_dict())
    assert "know 3 kinds" in caplog.text
    assert (len(detector.teachers), detector.domain_head[-1].out_features, detector.domains) == (3, 4, 3)
    detector.get_losses(batch := groups(kinds=3), detector(batch))


def test_the_student_predicts_alone():
    detector, batch = small().eval(), groups(1)
    state = {k: v for k, v in detector.state_dict().items() if k.split(".")[0] in ("student", "head")}
    torch.manual_seed(1)
    slim = detector_class("lsda")(detector.config, pretrained=False)
    slim.load_weights(state)
    with torch.no_grad():
        alone = slim.eval()({"image": batch["image"]}, inference=True)
        torch.testing.assert_close(alone["prob"], detector(batch)["prob"])
    with pytest.raises(WeightsError, match=r"missing, first `head\."):
        slim.load_weights({key: value for key, value in state.items() if not key.startswith("head.")})


def test_what_does_not_fit_is_said():
    detector, batch = small(), groups(kinds=1)
    with pytest.raises(DataError, match=r"2 kinds of fakes, and the batch has 2 role.*dataset_type: lsda"):
        detector(batch)
    with pytest.raises(ValueError, match="cannot be of several trunks at once"):
        detector_class("lsda").Config(model_name="lsda", pretrained="some", teacher="xception")
    config = detector_class("lsda").Config(model_name="lsda")
    with pytest.raises(ConfigError, match=r"teacher: .* `test_efficientne`; did you mean `test_efficientnet`"):
        Encoder("test_efficientne", config, False, "teacher")
    with pytest.raises(ConfigError, match="student: `vit_tiny_patch16_224` makes no maps"):
        Encoder("vit_tiny_patch16_224", config, False, "student")
    info = DataInfo(manipulations={"real": 0, "FF-DF": 1, "FF-F2F": 2})
    keeping = detector_class("lsda").Config(model_name="lsda", **SMALL, real_weight=1.0)
    with pytest.raises(ConfigError, match=r"keeps_identity: FF-NT is no kind of fake .*; known: FF-DF, FF-F2F"):
        detector_class("lsda")(keeping, info, pretrained=False)


def test_its_files_hold_the_papers_settings_and_the_benchmarks(tmp_path):
    paper = load_config(CONFIG_DIR / "detector" / "lsda.yaml")
    assert (paper.dataset_type, paper.train_batchSize, paper.real_weight) == ("lsda", 20, 0)
    assert (paper.cls_weight, paper.domain_weight, paper.distillation_weight) == (0.5, 1, 1)
    benchmark = load_config(CONFIG_DIR / "detector" / "lsda_benchmark.yaml")
    assert (benchmark.real_pretrained, benchmark.real_weight) == (None, 4 * 8 * 8)
    path = tmp_path / "lsda.yaml"
    path.write_text(
        "model_name: lsda\npretrained: ./training/pretrained/efficientnet-b4-6ed6700e.pth\nbackbone_name: efficientnetb4\n"
        "backbone_config: {mode: original, num_classes: 2, inc: 3, dropout: false}\ndataset_type: blend\n"
        "teacher: efficientnetb4\nstudent: efficientnetb4\nreal_encoder: null\n"
    )
    theirs = load_config(path, quiet=True)
    assert (theirs.dataset_type, theirs.real_encoder, theirs.backbone_config.stem_padding) == ("blend", None, True)
