"""SLADD: agreement with the reference, forgeries, choices and their reward, both sides' gradients, and what resumes."""

import copy

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_outputs, filled, losses_of, overfit
from helpers.faces import face_batch

from common.errors import ConfigError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.dataset.recipes import sladd_recipe
from training.dataset.recipes.recipe import recipe_class
from training.detectors.base import ADVERSARY
from training.detectors.parts import sladd
from training.detectors.parts.sladd import ALPHA, MIXUP, POISSON, UNTOUCHED, choose, forge, region_masks, seamless
from training.trainer.distributed import Process
from training.trainer.step import Stepper

CPU = Process(0, 1, torch.device("cpu"))


def slim(**keys):
    """Return a SLADD whose two trunks lack most of the middle flow, which neither side's contest needs."""
    made = build("sladd", **keys)
    for trunk in (made.backbone, made.synthesizer.trunk):
        for number in range(4, 12):
            setattr(trunk, f"block{number}", torch.nn.Identity())
    return made


@pytest.fixture(scope="module")
def detector():
    return slim(synthesizer_dropout=0.0)


def pairs(count=6, size=64, seed=0):
    """Return prepared targets, half of them real, with what could be forged into them."""
    batch, other = face_batch(count, size, seed), face_batch(count, size, seed + 1)
    generator = torch.Generator().manual_seed(seed)
    parts = torch.zeros(count, 5, size, size, dtype=torch.uint8)
    for number in range(5):
        parts[:, number, 8 * number : 8 * number + 20, 10:40] = 255
    return {
        **batch,
        "reference": other["image"].flip(0),
        "source": other["image"].flip(0),
        "parts": parts,
        "chance": torch.rand(count, 2, generator=generator),
    }


def biased(detector, blending):
    """Make the synthesiser choose one blending."""
    with torch.no_grad():
        detector.synthesizer.blending.bias.zero_()[blending] = 1e4
    return detector


def test_answers_as_the_reference():
    reference = filled(build("sladd"), prefix="module.")
    check_outputs(reference, tolerance=1e-4)
    assert reference.synthesizer.trunk.conv1.weight.shape == (32, 6, 3, 3)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def margin_entropy(score, label, margin=0.45, scale=30.0):
    lowered = score.copy()
    lowered[np.arange(len(label)), label] -= margin
    return -np.log(softmax(scale * lowered)[np.arange(len(label)), label])


def plain_prediction(rng, count=4):
    """Return what a forward pass of `count` targets could answer, as NumPy arrays."""
    return {
        "cls": rng.normal(size=(2 * count, 2)) / 10,
        "type": rng.normal(size=(2 * count, 5)) / 10,
        "magnitude": rng.normal(size=2 * count),
        "map": rng.random((2 * count, 1, 3, 3)),
        "forged": np.zeros((count, 3, 6, 6)),
        "label": np.array([1, 0, 1, 1]),
        "type_label": np.array([MIXUP, UNTOUCHED, 4, 4]),
        "ratio": rng.random(count),
        "region": rng.random((count, 1, 6, 6)),
        "log_prob": -rng.random(count),
        "entropy": rng.random(count),
    }


@pytest.mark.parametrize("reward", ["sample", "batch"])
@pytest.mark.parametrize("loss_func", ["am_softmax", "cross_entropy"])
def test_losses_are_what_the_docstring_says(detector, monkeypatch, reward, loss_func):
    keys = {"reward": reward, "loss_func": loss_func, "entropy_weight": 0.3}
    monkeypatch.setattr(detector, "config", detector.config.model_copy(update=keys))
    p = plain_prediction(np.random.default_rng(0))
    mask = np.zeros((4, 1, 6, 6), np.uint8)
    mask[2] = 1  # of the last fake nobody recorded it
    batch = {"label": torch.tensor([0, 0, 1, 1]), "mask": torch.from_numpy(mask)}
    losses = losses_of_sladd(detector, batch, p)
    twice = {key: np.concatenate([p[key]] * 2) for key in ("label", "type_label", "ratio")}
    margin = {"margin": 0.45, "scale": 30.0} if loss_func == "am_softmax" else {"margin": 0.0, "scale": 1.0}
    region = np.concatenate([p["region"], p["region"][..., ::-1]]).reshape(8, 1, 3, 2, 3, 2).mean((3, 5))
    each = {
        "cls": margin_entropy(p["cls"], twice["label"], **margin),
        "type": margin_entropy(p["type"], twice["type_label"]),
        "magnitude": np.where(twice["type_label"] == MIXUP, (p["magnitude"] - twice["ratio"]) ** 2, 0),
        "map": ((p["map"] - region) ** 2).mean((1, 2, 3)) * np.tile([1, 1, 1, 0], 2),
    }
    wanted = {name: value.mean() for name, value in each.items()}
    wanted["map"] *= 4 / 3
    for name, value in wanted.items():
        assert losses[name] == pytest.approx(value, rel=1e-4), name
    total = wanted["cls"] + 0.1 * wanted["map"] + 0.05 * wanted["type"] + 0.1 * wanted["magnitude"]
    assert losses["overall"] == pytest.approx(total, rel=1e-4)
    own = each["cls"] + 0.1 * each["map"] + 0.05 * each["type"] + 0.1 * each["magnitude"]
    own = (own[:4] + own[4:]) / 2
    earned = own if reward == "sample" else np.full(4, own.mean())
    policy = (-p["log_prob"] * earned - 0.3 * p["entropy"])[:2].mean()  # of real targets
    assert losses[ADVERSARY] == pytest.approx(policy, rel=1e-4)
    # A share of a larger batch divides by its part of the whole's numbers.
    shared = losses_of_sladd(detector, {**batch, "counts": {"map": torch.tensor(6.0), "real": torch.tensor(8.0)}}, p)
    assert shared["map"] == pytest.approx(wanted["map"] / 2, rel=1e-4)
    assert shared[ADVERSARY] == pytest.approx(policy / 4, rel=1e-4)
    assert {name: int(value) for name, value in detector.counts(batch).items()} == {"map": 3, "real": 2}


def losses_of_sladd(detector, batch, plain):
    prediction = {
        key: torch.from_numpy(np.ascontiguousarray(value)).to(torch.float32 if value.dtype == float else torch.int64)
        for key, value in plain.items()
    }
    return {name: value.item() for name, value in losses_of(detector, batch, prediction).items()}


def test_choices_follow_their_probabilities():
    rng = np.random.default_rng(1)
    region, blending, ratio = rng.normal(size=(4000, 10)), rng.normal(size=(4000, 4)), rng.normal(size=(4000, 1))
    region[:], blending[:] = region[0], blending[0]
    chance = rng.random((4000, 2))
    chosen = choose(*(torch.tensor(x, dtype=torch.float32) for x in (region, blending, ratio, chance)))
    picked, probability = chosen.region.numpy(), softmax(region)[0]
    share = np.bincount(picked, minlength=10) / 4000
    assert np.abs(share - probability).max() < 0.03
    types = softmax(blending)[0]
    assert np.abs(np.bincount(chosen.blending.numpy(), minlength=4) / 4000 - types).max() < 0.03
    sigma = 1 / (1 + np.exp(-ratio[:, 0]))
    log_prob = np.log(probability[picked]) + np.log(types[chosen.blending.numpy()]) + np.log(sigma)
    np.testing.assert_allclose(chosen.log_prob.numpy(), log_prob, rtol=1e-4, atol=1e-5)
    entropy = -(probability * np.log(probability)).sum() - (types * np.log(types)).sum() - sigma * np.log(sigma)
    np.testing.assert_allclose(chosen.entropy.numpy(), entropy, rtol=1e-4)
    np.testing.assert_allclose(chosen.ratio.numpy(), sigma, rtol=1e-5)
    last = choose(torch.zeros(1, 10), torch.zeros(1, 4), torch.zeros(1, 1), torch.ones(1, 2))
    assert (last.region.item(), last.blending.item()) == (9, 3)


def test_regions_are_unions_of_parts():
    parts = torch.zeros(10, 5, 1, 5, dtype=torch.uint8)
    parts[:, range(5), 0, range(5)] = torch.tensor([51, 102, 153, 204, 255], dtype=torch.uint8)
    found = region_masks(parts, torch.arange(10))[:, 0, 0].numpy().round(2)
    left, right, band, nose, mouth = np.eye(5) * [0.2, 0.4, 0.6, 0.8, 1.0]
    wanted = [
        left, right, band, nose, mouth, nose + left, nose + right, nose + band, nose + mouth, band + nose + mouth
    ]  # fmt: skip
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert sladd.PARTS == sladd_recipe.PARTS


def test_blendings_are_what_they_are_called():
    rng = np.random.default_rng(2)
    target, source = rng.random((4, 3, 16, 16)), rng.random((4, 3, 16, 16))
    alpha = np.zeros((4, 1, 16, 16))
    alpha[:, :, 4:12, 4:12] = rng.random((4, 1, 8, 8))
    kinds = np.array([ALPHA, POISSON, MIXUP, UNTOUCHED])
    given = [torch.tensor(x, dtype=torch.float32) for x in (target, source, alpha)]
    made = forge(*given, torch.tensor(kinds), torch.full((4,), 0.25)).numpy()
    np.testing.assert_allclose(made[0], target[0] + alpha[0] * (source[0] - target[0]), atol=1e-6)
    np.testing.assert_allclose(made[2], target[2] + 0.25 * alpha[2] * (source[2] - target[2]), atol=1e-6)
    np.testing.assert_array_equal(made[3], target[3].astype(np.float32))
    np.testing.assert_array_equal(made[:, :, :4], target[:, :, :4].astype(np.float32))
    assert np.abs(made[1] - target[1])[:, alpha[1, 0] >= 0.5].min() > 0
    np.testing.assert_array_equal(made[1][:, alpha[1, 0] < 0.5], target[1].astype(np.float32)[:, alpha[1, 0] < 0.5])


@pytest.mark.parametrize("shape", [(24, 24), (21, 30)])
def test_seamless_blending_solves_poissons_equation(shape):
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: shape[0], : shape[1]]
    target = np.stack([np.sin(y / 7), np.cos(x / 5), x / 20])
    source = rng.normal(size=(3, *shape)) / 4 + 0.5
    inside = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 < 70
    number = np.where(inside, np.cumsum(inside).reshape(shape) - 1, -1)
    matrix, right = np.zeros((inside.sum(),) * 2), np.zeros((inside.sum(), 3))
    for i, (row, column) in enumerate(np.argwhere(inside)):
        for up, along in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            near = (row + up, column + along)
            matrix[i, i] += 1
            right[i] += source[:, row, column] - source[(slice(None), *near)]
            if inside[near]:
                matrix[i, number[near]] -= 1
            else:
                right[i] += target[(slice(None), *near)]
    wanted = target.copy()
    wanted[:, inside] = np.linalg.solve(matrix, right).T
    given = [torch.tensor(v, dtype=torch.float32)[None] for v in (target, source)]
    found = seamless(*given, torch.tensor(inside)[None, None])[0].numpy()
    np.testing.assert_array_equal(found[:, ~inside], target.astype(np.float32)[:, ~inside])
    pasted = np.abs(source - wanted)[:, inside].mean()
    assert np.abs(found - wanted)[:, inside].mean() < 0.02 * pasted


@pytest.mark.parametrize("blending", [ALPHA, POISSON, MIXUP, UNTOUCHED])
def test_real_faces_are_forged_and_fakes_left_alone(detector, blending):
    made, batch = biased(copy.deepcopy(detector), blending).eval(), pairs()
    batch["parts"][2] = 0  # a face of which nothing can be taken
    with torch.no_grad():
        prediction = made(batch)
    forged = blending != UNTOUCHED
    assert prediction["label"].tolist() == [int(forged), int(forged), 0, 1, 1, 1]
    assert prediction["type_label"].tolist() == [blending, blending, UNTOUCHED, 4, 4, 4]
    assert torch.equal(prediction["forged"][2:], batch["image"][2:])
    changed = (prediction["forged"] != batch["image"]).any(dim=1, keepdim=True)
    assert changed[:2].any(dim=(1, 2, 3)).tolist() == [forged] * 2
    assert not (changed[:2] & ~(prediction["region"][:2] > 0)).any()
    assert torch.equal(prediction["region"][3:], batch["mask"][3:].float())
    assert not prediction["region"][2].any()
    pixels = (prediction["forged"] + 1) * 127.5
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-3, rtol=0)
    assert prediction["cls"].shape == (12, 2)
    # The second half is the first one's mirror image.
    with torch.no_grad():
        mirrored = made({"image": prediction["forged"].flip(3)}, inference=True)
    torch.testing.assert_close(prediction["prob"][6:], mirrored["prob"], atol=1e-4, rtol=0)


def test_each_loss_reaches_its_own_side_and_all_of_it(detector):
    made, batch = biased(copy.deepcopy(detector), MIXUP).train(), pairs()
    with torch.no_grad():
        made.synthesizer.blending.bias[MIXUP] = 6.0  # and leaves the others a gradient
    sides = {
        "overall": {n: p for n, p in made.named_parameters() if not n.startswith("synthesizer.")},
        ADVERSARY: dict(made.synthesizer.named_parameters()),
    }
    losses = losses_of(made, batch, made(batch))
    for loss, own in sides.items():
        made.zero_grad()
        losses[loss].backward(retain_graph=True)
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in own.values()), loss
        others = {id(p) for p in own.values()}
        assert all(p.grad is None for p in made.parameters() if id(p) not in others), loss
    groups = made.adversary_groups(made.config)
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in sides[ADVERSARY].values()}


def test_learns_a_handful_of_faces(detector):
    assert overfit_pictures(biased(copy.deepcopy(detector), UNTOUCHED), pairs()) == 1.0


def overfit_pictures(made, batch):
    """Train on targets as they are; the helper judges by one answer per target."""
    whole = made.forward

    def of_targets(given, inference=False):
        prediction = whole(given, inference)
        return {**prediction, "prob": prediction["prob"][: len(given["image"])]}

    made.forward = of_targets
    return overfit(made, batch, steps=14, lr=5e-4)


def test_what_the_detector_fails_on_becomes_likelier(detector):
    made = copy.deepcopy(detector)
    batch = {"label": torch.zeros(2, dtype=torch.int64), "mask": torch.zeros(2, 1, 6, 6, dtype=torch.uint8)}
    logits = torch.zeros(2, 10, requires_grad=True)
    chosen = choose(logits, torch.zeros(2, 4), torch.zeros(2, 1), torch.tensor([[0.05, 0.1], [0.95, 0.1]]))
    assert chosen.region.tolist() == [0, 9]
    plain = plain_prediction(np.random.default_rng(0), 2)
    plain |= {"label": np.array([1, 1]), "type_label": np.array([ALPHA, ALPHA])}
    plain["cls"] = np.array([[0.5, -0.5], [-0.5, 0.5]] * 2)  # the first is missed, the second is found out
    prediction = {
        k: torch.from_numpy(v).to(torch.float32 if v.dtype == float else torch.int64) for k, v in plain.items()
    }
    prediction |= {"log_prob": chosen.log_prob, "entropy": chosen.entropy}
    made.get_losses(batch, prediction)[ADVERSARY].backward()
    lift = (-logits.grad).numpy()
    assert lift[0, 0] > 5 * lift[1, 9] > 0
    assert (np.delete(lift[0], 0) < 0).all()


def engine(detector):
    return Stepper(detector, detector.config, CPU, 8, 4)


def test_both_optimisers_resume_to_the_same_bits():
    def fresh():
        keys = {"train_batchSize": 4, "resolution": 32, "optimizer": {"type": "adam", "adam": {"lr": 1e-3}}}
        made = slim(**keys)
        return made, engine(made)

    whole, stepper = fresh()
    rates = [optimizer.param_groups[0]["lr"] for optimizer in stepper.optimizers]
    assert rates[1] == pytest.approx(rates[0] / 4)
    stepper.step(pairs(4, 32, 0), 0)
    saved = copy.deepcopy({"model": whole.state_dict(), **stepper.state()})
    stepper.step(pairs(4, 32, 1), 1)
    ends = []
    for forgets in (False, True):
        again, other = fresh()
        again.load_weights(saved["model"])
        empty = other.adversary.state_dict()["state"]
        other.load_state(saved | ({ADVERSARY: {**saved[ADVERSARY], "state": empty}} if forgets else {}))
        other.step(pairs(4, 32, 1), 1)
        ends.append([n for n, v in again.state_dict().items() if not torch.equal(v, whole.state_dict()[n])])
    assert ends[0] == []
    assert any(name.startswith("synthesizer.") for name in ends[1])


def test_inference_reads_the_image_only_and_forges_nothing(detector):
    made, batch = copy.deepcopy(detector).eval(), pairs(2)
    with torch.no_grad():
        alone, given = made({"image": batch["image"]}, inference=True), made(batch, inference=True)
    assert set(alone) == {"cls", "prob", "feat"}
    assert torch.equal(alone["prob"], given["prob"])
    with pytest.raises(ConfigError, match="dataset_type: sladd"):
        made.get_losses(batch, alone)


def test_bytes_beside_the_image_are_normalised_like_it(detector):
    byte = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3).expand(1, 3, 2, 3)
    ready = detector.prepare({"image": byte, "reference": byte, "source": byte})
    for key in ("image", "reference", "source"):
        assert ready[key][0, 0, 0].tolist() == pytest.approx([-1, -0.6, 1], abs=1e-6)


def test_its_files_hold_the_papers_settings_and_the_benchmarks(tmp_path):
    paper = load_config(CONFIG_DIR / "detector" / "sladd.yaml")
    assert (paper.dataset_type, paper.loss_func, paper.margin, paper.scale) == ("sladd", "am_softmax", 0.45, 30)
    assert (paper.map_weight, paper.type_weight, paper.magnitude_weight) == (0.1, 0.05, 0.1)
    assert (paper.optimizer.adam.lr, paper.synthesizer_lr, paper.nEpochs) == (0.0002, 0.25, 30)
    theirs = load_config(CONFIG_DIR / "detector" / "sladd_benchmark.yaml")
    assert (theirs.model_name, theirs.loss_func, theirs.margin, theirs.reward) == (
        "sladd",
        "cross_entropy",
        0.5,
        "batch",
    )
    made = slim(synthesizer_beta1=theirs.synthesizer_beta1, optimizer={"type": "adam", "adam": {"lr": 0.4}})
    group = engine(made).adversary.param_groups[0]
    assert (group["betas"], group["lr"]) == ((0.225, 0.999), pytest.approx(0.1))
    path = tmp_path / "sladd.yaml"
    path.write_text(
        "model_name: sladd\npretrained: ./training/pretrained/xception-b5690688.pth\nbackbone_name: xception_sladd\n"
        "backbone_config: {mode: original, num_classes: 2, inc: 3, dropout: false}\ndataset_type: pair\n"
        "loss_func: cross_entropy\ntypeloss_func: am_softmax\nwith_mask: true\nwith_landmark: true\n"
    )
    field = load_config(path, quiet=True)
    assert (field.backbone_name, field.loss_func, recipe_class(field).name) == ("xception", "cross_entropy", "sladd")
