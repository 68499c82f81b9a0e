"""Multi-attention: agreement with the reference, its terms in NumPy, its phases and centres, gradients, and that it can learn."""

import copy

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_outputs, filled, overfit
from helpers.faces import face_batch
from parity.fill import load_golden
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional as F

from common.errors import ConfigError, WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors import multi_attention_detector
from training.detectors.base import Clock
from training.detectors.parts.multi_attention.attention_guided_augmentation import (
    blurred_where_attended,
    degraded,
    drawn_map,
    gate,
)
from training.detectors.parts.multi_attention.network import TextureEnhancement, directions, global_mean, inside
from training.trainer.distributed import Process
from training.trainer.step import Stepper

STILL = {"backbone_config": {"drop_path": 0.0}, "dropout_rate": 0.0, "dropout_rate_final": 0.0}
ORIGINAL = {**STILL, "AGDA": {"images": "original"}}


@pytest.fixture(scope="module")
def reference():
    """Built by the paper's defaults; the weights take the trunk's padding and activations away."""
    return filled(build("multi_attention"), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-5)
    assert sum(p.numel() for p in reference.parameters()) == load_golden("multi_attention")["params"]
    trunk = reference.config.backbone_config
    assert (trunk.stem_padding, trunk.outer_activations) == (False, False)
    # What it has become is what its configuration builds.
    again = build("multi_attention", backbone_config=trunk.model_dump(), resolution=64).eval()
    again.load_weights(reference.state_dict())
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again({"image": image})["cls"], reference({"image": image})["cls"])


def test_weights_that_do_not_fit_leave_the_trunk_as_it_was(reference):
    detector, image = build("multi_attention").eval(), torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        before = detector({"image": image})["feat"]
        with pytest.raises(WeightsError, match="does not hold the weights of this network"):
            detector.load_weights({"backbone.efficientnet._conv_stem.weight": torch.zeros(48, 3, 3, 3)})
        assert torch.equal(detector({"image": image})["feat"], before)
    assert detector.config.backbone_config.outer_activations
    lacking = {key: value for key, value in reference.state_dict().items() if not key.startswith("texture.")}
    with pytest.raises(WeightsError, match=r"missing, first `texture\."):
        reference.load_weights(lacking)
    # The trunk's own classifier serves a warm-up only.
    reference.load_weights({key: value for key, value in reference.state_dict().items() if not key.startswith("head.")})


class SmallTrunk(nn.Module):
    """Stages of EfficientNet-B4's channels and strides, one convolution each."""

    def __init__(self):
        super().__init__()
        channels = [24, *multi_attention_detector._CHANNELS.values()]
        self.conv_stem, self.bn1 = nn.Conv2d(3, 24, 3, 2, 1), BatchNormAct2d(24)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b))
                for a, b, stride in zip(channels, channels[1:], (1, 2, 2, 2, 1, 2, 1), strict=False)
            )
        )
        self.conv_head, self.bn2 = nn.Conv2d(channels[-1], 1792, 1, bias=False), BatchNormAct2d(1792)


@pytest.fixture
def small(monkeypatch):
    """Detectors are built on a trunk that costs nothing."""
    monkeypatch.setattr(multi_attention_detector, "build_efficientnet", lambda *_: SmallTrunk())


def numpy_pooled(features, attention):
    """Sums of features under attention, by loops over places and corners."""
    (count, channels, height, width), (rows, columns) = features.shape, attention.shape[2:]
    out = np.zeros((count, attention.shape[1], channels))
    for i in range(height):
        for j in range(width):
            y, x = i * (rows - 1) / max(1, height - 1), j * (columns - 1) / max(1, width - 1)
            a, b = min(int(y), rows - 2), min(int(x), columns - 2)
            weight = sum(
                (1 - abs(y - a - p)) * (1 - abs(x - b - q)) * attention[:, :, a + p, b + q]
                for p in (0, 1)
                for q in (0, 1)
            )
            out += weight[:, :, None] * features[:, None, :, i, j]
    return out


def numpy_independence(vectors, label, centers, rate, inner=(0.05, 0.1), outer=0.2):
    """Moved centres and the two terms, region by region."""
    moved = centers + rate * (vectors.mean(0) - centers)
    intra = [
        max(0, np.sqrt(((v - c) ** 2).sum()) - inner[y])
        for regions, y in zip(vectors, label, strict=True)
        for v, c in zip(regions, moved, strict=True)
    ]
    pairs = [(j, k) for j in range(len(moved)) for k in range(j + 1, len(moved))]
    inter = sum(max(0, outer - np.sqrt(((moved[j] - moved[k]) ** 2).sum())) for j, k in pairs)
    return moved, np.mean(intra), inter / len(moved) / rate


def entropy(cls, label):
    return np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(len(cls)), label])


@pytest.mark.parametrize("weights", [[1, 1], [0.5, 2.0]])
def test_every_term_is_the_papers(weights, small):
    detector, batch = build("multi_attention", loss_func={"weights": weights}).train(), face_batch(6, 8)
    rng, label = np.random.default_rng(0), batch["label"].numpy()
    cls, blurred = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    attention, means = rng.uniform(0, 2, (6, 4, 5, 5)), rng.normal(size=(6, 32, 5, 5))
    centers = rng.normal(size=(4, 32)) * 0.01
    detector.centers.copy_(torch.tensor(centers))
    detector.before_step(Clock(step=25, total_steps=100, steps_per_epoch=10))  # two epochs are over
    rate = 0.05 * 0.9**2
    given = {"cls": cls, "cls_augmented": blurred, "attentions": attention, "feature_maps_d": means}
    losses = detector.get_losses(batch, {key: torch.tensor(value) for key, value in given.items()})
    vectors = numpy_pooled(means, attention)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    moved, intra, inter = numpy_independence(vectors, label, centers, rate)
    wanted = {"cls": entropy(cls, label), "augmented": entropy(blurred, label), "intra": intra, "inter": inter}
    assert {name: value.item() for name, value in losses.items() if name != "overall"} == pytest.approx(
        wanted, rel=1e-5
    )
    total = weights[0] * (wanted["cls"] + wanted["augmented"]) + weights[1] * (intra + inter)
    assert losses["overall"].item() == pytest.approx(total, rel=1e-5)
    # The centres follow once the step is done, not before.
    np.testing.assert_allclose(detector.centers.numpy(), centers, rtol=1e-6)
    detector.after_backward(Clock(25, 100, 10))
    np.testing.assert_allclose(detector.centers.numpy(), moved, rtol=1e-5, atol=1e-7)


def test_centres_follow_the_whole_batch_and_no_stand_in(small):
    detector = build("multi_attention", loss_func={"ril_params": {"alpha": 0.5}}).train()
    generator = torch.Generator().manual_seed(0)
    attention, means = (torch.rand(6, channels, 4, 4, generator=generator) for channels in (4, 32))
    detector.before_step(Clock(0, 10, 10))
    for rows, mark in ((slice(0, 4), {}), (slice(4, 6), {}), (slice(0, 1), {"stand_in": True})):
        batch = {"label": torch.zeros(len(means[rows]), dtype=torch.int64), **mark}
        prediction = {"cls": torch.zeros(len(means[rows]), 2), "attentions": attention[rows]}
        detector.get_losses(batch, {**prediction, "feature_maps_d": means[rows]})
    detector.eval()
    detector.get_losses(batch, {**prediction, "feature_maps_d": means[:1]})  # a validation's
    detector.after_backward(Clock(0, 10, 10))
    torch.testing.assert_close(detector.centers, 0.5 * directions(means, attention).mean(0))


def test_between_regions_centres_carry_the_gradient(small):
    given = {"cls": torch.zeros(2, 2), "attentions": torch.rand(2, 4, 3, 3)}
    for detached in (False, True):
        detector = build("multi_attention", loss_func={"ril_params": {"detached": detached}}).train()
        means = torch.rand(2, 32, 3, 3, requires_grad=True)
        losses = detector.get_losses({"label": torch.tensor([0, 1])}, {**given, "feature_maps_d": means})
        assert losses["inter"].requires_grad is not detached
        assert losses["intra"].requires_grad


def test_attention_keeps_off_the_border():
    for side in (2, 8, 16, 24, 25):
        places = np.floor(np.arange(side) * 24 / side)
        np.testing.assert_array_equal(inside(side).numpy(), (places >= 2) & (places < 22))


def test_texture_is_what_differs_from_the_means():
    module = TextureEnhancement(3).eval()
    smooth = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat_interleave(4, 0).repeat_interleave(4, 1).expand(1, 3, 8, 8)
    with torch.no_grad():
        found, means = module(smooth, (2, 2))
        nothing = module(torch.zeros(1, 3, 8, 8), (2, 2))[0]
        assert not torch.allclose(module(torch.randn(1, 3, 8, 8), (2, 2))[0], nothing)
    torch.testing.assert_close(found, nothing)
    torch.testing.assert_close(means[0, 0], torch.tensor([[0.0, 1.0], [2.0, 3.0]]))


def test_the_global_feature_is_a_mean_under_all_maps():
    rng = np.random.default_rng(0)
    features, attention = rng.normal(size=(2, 3, 4, 6)), rng.uniform(0, 1, (2, 4, 5, 3))
    together = attention.sum(1, keepdims=True)
    wanted = numpy_pooled(features, together) / numpy_pooled(np.ones((2, 1, 4, 6)), together)
    found = global_mean(torch.tensor(features), torch.tensor(attention))
    np.testing.assert_allclose(found.numpy(), wanted[:, 0], rtol=1e-5, atol=1e-6)


AGDA = {"threshold": [0.4, 0.6], "zoom": [3, 5], "scale": 0.5, "kernel": 5, "sigma": 2.0, "noise": 0.0}


def test_an_image_is_blurred_where_a_map_looks_and_nowhere_else():
    torch.manual_seed(0)
    image, attention = torch.randn(3, 3, 16, 16), torch.zeros(3, 1, 16, 16)
    attention[:, :, 4:12, 4:12] = torch.tensor([0.5, 1.0, 7.0]).view(3, 1, 1, 1)
    found = blurred_where_attended(image, attention, **AGDA)
    outside = attention == 0
    assert torch.equal(found[outside.expand_as(found)], image[outside.expand_as(found)])
    # Relative to its maximum, a map says the same however strong it is: a share of the blurred image, one for each image.
    change, most = found - image, degraded(image, 0.5, 5, 2.0, 0.0) - image
    share = (change / most)[..., 4:12, 4:12]
    assert torch.allclose(share, share[:, :1, :1, :1].expand_as(share), atol=1e-3)
    low, high = (gate(torch.ones(1), torch.tensor(t), torch.tensor(z)).item() for t, z in ((0.6, 3.0), (0.4, 5.0)))
    assert low <= share[:, 0, 0, 0].min() < share[:, 0, 0, 0].max() <= high < 1


def test_degraded_is_smaller_blurred_and_large_again():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 1, 8, 8))
    grid = np.arange(4) * 7 / 3  # corners stay corners
    low = np.minimum(grid.astype(int), 6)
    shrink = np.zeros((4, 8))
    shrink[np.arange(4), low], shrink[np.arange(4), low + 1] = 1 - (grid - low), grid - low
    line = np.exp(-(np.arange(-1, 2) ** 2) / (2 * 1.5**2))
    padded = np.pad(shrink @ image[0, 0] @ shrink.T, 1, mode="edge")
    kernel = np.outer(line, line) / line.sum() ** 2
    small = np.array([[(padded[i : i + 3, j : j + 3] * kernel).sum() for j in range(4)] for i in range(4)])
    grow = np.stack([np.interp(np.arange(8) * 3 / 7, np.arange(4), row) for row in np.eye(4)], axis=1)
    found = degraded(torch.tensor(image), 0.5, 3, 1.5, 0.0)
    np.testing.assert_allclose(found[0, 0].numpy(), grow @ small @ grow.T, rtol=1e-5, atol=1e-6)
    torch.manual_seed(0)
    noisy = degraded(torch.zeros(1, 3, 64, 64), 1.0, 3, 1.5, 0.1)
    assert noisy.std().item() == pytest.approx(0.1, rel=0.05)


def test_the_map_is_drawn_by_the_root_of_what_it_attends_to():
    torch.manual_seed(0)
    attention = torch.stack([torch.zeros(2, 2), torch.full((2, 2), 2.0)]).expand(4000, 2, 2, 2)  # roots 1 and 3
    drawn = drawn_map(attention)
    assert drawn.shape == (4000, 1, 2, 2)
    assert (drawn[:, 0, 0, 0] > 0).float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_gradients_reach_everything_but_the_trunks_classifier():
    detector = build("multi_attention")
    check_gradients(detector, face_batch(4, 64))
    assert [name for name, p in detector.named_parameters() if not p.requires_grad] == ["head.weight", "head.bias"]


def test_losses_are_of_the_chosen_images(monkeypatch, small):
    # The copies are black: what the losses are of shows in the answers.
    monkeypatch.setattr(
        multi_attention_detector, "blurred_where_attended", lambda image, *_, **__: torch.zeros_like(image)
    )
    batch, found = face_batch(2, 64), {}
    for images in ("original", "both", "augmented"):
        detector = build("multi_attention", **STILL, AGDA={"images": images}).train()
        with torch.no_grad():
            found[images] = detector(batch)
    assert torch.equal(found["both"]["cls"], found["original"]["cls"])
    torch.testing.assert_close(found["both"]["cls_augmented"], found["augmented"]["cls"], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found["augmented"]["cls"], found["original"]["cls"], atol=1e-3)
    assert "cls_augmented" not in found["original"]
    assert "cls_augmented" not in found["augmented"]


def test_the_trunk_trains_alone_first_and_evaluation_is_of_the_whole(small):
    detector, batch = (
        build("multi_attention", backbone_nEpochs=2, nEpochs=3, AGDA={"images": "original"}),
        face_batch(4, 64),
    )
    assert detector.find_unused_parameters
    for step, alone in ((0, True), (19, True), (20, False)):
        detector.train().before_step(Clock(step, 30, 10))
        detector.zero_grad()
        prediction = detector(batch)
        losses = detector.get_losses(batch, prediction)
        losses["overall"].backward()
        moved = {name.partition(".")[0] for name, p in detector.named_parameters() if p.grad is not None}
        whole = {"attention", "texture", "local_features", "global_features", "classifier"}
        assert moved == {"backbone"} | ({"head"} if alone else whole)
        assert losses.keys() == ({"overall", "cls"} if alone else {"overall", "cls", "intra", "inter"})
        if alone:
            logits = detector.head(prediction["feat"].mean((2, 3)))
            assert torch.equal(prediction["cls"], logits)
            assert losses["cls"].item() == pytest.approx(F.cross_entropy(logits, batch["label"]).item())
    # α counts from the end of the warm-up.
    assert detector.rate == 0.05
    detector.before_step(Clock(0, 30, 10))
    with torch.no_grad():
        assert "attentions" in detector.eval()({"image": batch["image"]}, inference=True)


def test_a_resumed_training_takes_the_same_steps(small):
    keys = {"train_batchSize": 4, "resolution": 32}
    batch, process = face_batch(4, 32), Process(0, 1, torch.device("cpu"))

    def stepper():
        detector = build("multi_attention", **keys)
        return detector, Stepper(detector, detector.config, process, 10, 2)

    first, one = stepper()
    for step in range(3):
        one.step(batch, step)
    second, other = stepper()
    second.load_weights(first.state_dict())
    second.load_training_state(first.training_state())
    assert first.centers.any()
    other.load_state(copy.deepcopy(one.state()))
    losses = [each.step(batch, 3)[0] for each in (one, other)]
    assert losses[0] == losses[1]
    assert torch.equal(first.centers, second.centers)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_learns_a_handful_of_faces():
    assert overfit(build("multi_attention", **ORIGINAL), face_batch(4, 64), steps=12, lr=1e-3) == 1.0


def test_inference_reads_the_image_only(reference):
    batch = face_batch(2, 64)
    with torch.no_grad():
        alone, together = reference.eval()({"image": batch["image"]}, inference=True), reference(batch)
    assert torch.equal(alone["prob"], together["prob"])
    assert set(alone) == {"cls", "prob", "feat", "attentions", "feature_maps_d"}


def test_its_files_hold_the_papers_settings_and_the_benchmarks(tmp_path, small):
    paper = load_config(CONFIG_DIR / "detector" / "multi_attention.yaml")
    assert (paper.resolution, paper.train_batchSize, paper.num_attentions) == (380, 48, 4)
    assert (paper.optimizer.adam.lr, paper.optimizer.adam.weight_decay) == (0.001, 1e-6)
    # What stands there is what the detector takes without a file.
    own = (
        "backbone_config",
        "loss_func",
        "AGDA",
        "feature_layer",
        "attention_layer",
        "dropout_rate",
        "dropout_rate_final",
    )
    for name in own:
        wanted = getattr(build("multi_attention").config, name)
        found = getattr(paper, name)
        assert found == (wanted if name != "backbone_config" else wanted.model_copy(update={"mode": "original"}))
    benchmark = load_config(CONFIG_DIR / "detector" / "multi_attention_benchmark.yaml")
    assert (benchmark.AGDA.images, benchmark.backbone_nEpochs) == ("augmented", 10)
    assert benchmark.loss_func.ril_params.detached
    path = tmp_path / "multi_attention.yaml"
    path.write_text(
        "model_name: multi_attention\nbackbone_name: efficientnetb4\nbatch_per_epoch: 3591\nbackbone_nEpochs: 10\n"
        "backbone_config: {num_classes: 2, inc: 3, dropout: false, mode: Original}\nnEpochs: 50\n"
        "loss_func:\n  cls_loss: cross_entropy\n  ril_loss: region_independent_loss\n"
        "  ril_params: {N: 32, alpha: 0.05, alpha_decay: 0.9, inter_margin: 0.2, intra_margin: [0.05, 0.1]}\n"
        "AGDA: {kernel_size: 11, dilation: 2, sigma: 7, threshold: [0.4, 0.6], zoom: [3, 5], scale_factor: 0.5}\n"
    )
    theirs = load_config(path, quiet=True)
    assert (theirs.backbone_nEpochs, theirs.AGDA.scale_factor) == (10, 0.5)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("resolution=16", "nothing but their border; take at least 32"),
        ("backbone_nEpochs=20", "leaves nothing of nEpochs 20"),
        ("early_stopping=3", "leaves nothing of early_stopping 3"),
        ("AGDA.kernel_size=4", "take an odd one"),
        ("AGDA.zoom=[5, 3]", "the lower one first"),
        ("feature_layer=b9", "feature_layer"),
    ],
)
def test_keys_that_cannot_work_are_told(key, says):
    more = ["backbone_nEpochs=5"] if key.startswith("early") else []
    with pytest.raises(ConfigError, match=says):
        load_config(CONFIG_DIR / "detector" / "multi_attention.yaml", overrides=[key, *more])
