"""One training step: the gradient is that of the global batch's mean loss, however the batch is cut up."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import DataError
from training.batch import stand_in
from training.config.schema import Config
from training.detectors.base import ClassificationDetector, Detector
from training.trainer.distributed import Process
from training.trainer.step import NotFinite, Stepper, split_batch

CPU = Process(0, 1, torch.device("cpu"))


class Toy(ClassificationDetector):
    """A linear detector with a masked identity loss, as the identity head has."""

    def __init__(self, config):
        super().__init__(config)
        self.trunk = nn.Linear(3 * 8 * 8, 6)
        self.head = nn.Linear(6, 2)
        self.identity = nn.Linear(6, 4)

    def features(self, image):
        return torch.tanh(self.trunk(image.flatten(1)))

    def classifier(self, feat):
        return self.head(feat)

    def counts(self, batch):
        return {"identity": (batch["target_id"] >= 0).sum()}

    def get_losses(self, batch, prediction):
        losses = super().get_losses(batch, prediction)
        each = nn.functional.cross_entropy(
            self.identity(prediction["feat"]), batch["target_id"], ignore_index=-1, reduction="sum"
        )
        identity = each / batch["counts"]["identity"]
        return {"overall": losses["overall"] + identity, "cls": losses["cls"], "identity": identity}


def make(**keys):
    torch.manual_seed(0)
    settings = {"optimizer": {"type": "sgd", "sgd": {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}}, **keys}
    config = Config.model_validate({"model_name": "toy", "manualSeed": 5, **settings})
    detector = Toy(config)
    return detector, Stepper(detector, config, CPU, total_steps=10, steps_per_epoch=5)


def make_batch(size=12, unknown=(1, 2, 7)):
    generator = np.random.default_rng(3)
    target = generator.integers(0, 4, size)
    target[[i for i in unknown if i < size]] = -1
    return {
        "image": torch.from_numpy(generator.integers(0, 256, (size, 3, 8, 8), dtype=np.uint8)),
        "label": torch.from_numpy(np.arange(size) % 2),
        "target_id": torch.from_numpy(target),
        "video": [f"toy/x/{i}" for i in range(size)],
        "frame": torch.arange(size),
    }


def weights(detector):
    return torch.cat([p.detach().flatten() for p in detector.parameters()])


def test_a_step_is_plain_gradient_descent_on_the_mean_loss():
    detector, stepper = make()
    expected = copy.deepcopy(detector)
    batch = expected.prepare(make_batch())
    batch["counts"] = {"identity": (batch["target_id"] >= 0).sum()}
    losses = expected.get_losses(batch, expected(batch))
    losses["overall"].backward()
    wanted = torch.cat([(p - 0.1 * p.grad).detach().flatten() for p in expected.parameters()])
    said, _ = stepper.step(make_batch(), 0)
    torch.testing.assert_close(weights(detector), wanted)
    assert said["overall"] == pytest.approx(losses["overall"].item(), rel=1e-5)
    assert said["identity"] == pytest.approx(losses["identity"].item(), rel=1e-5)


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_accumulation_equals_the_large_batch_masked_means_included(parts):
    whole, one = make()
    cut, many = make(accumulate=parts)
    for step in range(4):
        a, _ = one.step(make_batch(), step)
        b, _ = many.step(make_batch(), step)
        assert a["overall"] == pytest.approx(b["overall"], rel=1e-5)
    torch.testing.assert_close(weights(whole), weights(cut), atol=1e-6, rtol=1e-5)


def test_micro_batches_share_every_role():
    batch = {"label": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), "video": list("abcdefgh"), "roles": 2}
    parts = list(split_batch(batch, 2))
    assert [part["video"] for part in parts] == [["a", "b", "e", "f"], ["c", "d", "g", "h"]]
    assert all(part["roles"] == 2 for part in parts)


def test_a_step_does_not_depend_on_the_global_random_state():
    results = []
    for noise in (1, 2):
        detector, stepper = make()
        detector.trunk = nn.Sequential(detector.trunk, nn.Dropout(0.5))
        torch.manual_seed(noise)
        stepper.step(make_batch(), 3)
        results.append(weights(detector))
    assert torch.equal(*results)


def test_not_finite_loss_updates_nothing():
    detector, stepper = make()
    before = weights(detector)
    batch = make_batch()
    batch["image"] = torch.full((12, 3, 8, 8), float("nan"))
    with pytest.raises(NotFinite) as caught:
        stepper.step(batch, 7)
    assert {"overall", "cls", "identity"} <= caught.value.values.keys()
    assert "loss is not finite at step 7" in str(caught.value)
    assert torch.equal(weights(detector), before)


def test_gradient_clipping_bounds_the_update():
    detector, stepper = make(grad_clip=1e-3)
    before = weights(detector)
    stepper.step(make_batch(), 0)
    assert torch.linalg.vector_norm(weights(detector) - before).item() == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_sam_differs_from_sgd_and_matches_its_definition():
    sam, stepper = make(optimizer={"type": "sam", "sam": {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "rho": 0.1}})
    reference = copy.deepcopy(sam)

    def gradient(model):
        model.zero_grad()
        batch = model.prepare(make_batch())
        batch["counts"] = {"identity": (batch["target_id"] >= 0).sum()}
        model.get_losses(batch, model(batch))["overall"].backward()
        return [p.grad.clone() for p in model.parameters()]

    first = gradient(reference)
    norm = torch.sqrt(sum((g**2).sum() for g in first))
    moved = copy.deepcopy(reference)
    with torch.no_grad():
        for p, g in zip(moved.parameters(), first, strict=True):
            p.add_(0.1 * g / norm)
    second = gradient(moved)
    wanted = torch.cat([(p - 0.1 * g).detach().flatten() for p, g in zip(reference.parameters(), second, strict=True)])
    stepper.step(make_batch(), 0)
    torch.testing.assert_close(weights(sam), wanted, atol=1e-6, rtol=1e-5)


def test_a_stand_in_for_an_empty_batch_has_every_role_and_no_identity():
    batch = make_batch()
    empty = {k: v[:0] if isinstance(v, torch.Tensor) else [] for k, v in batch.items()}
    filled = stand_in({**empty, "roles": 2})
    assert filled["image"].shape == (2, 3, 8, 8)
    assert filled["label"].tolist() == [0, 1]
    assert filled["target_id"].tolist() == [-1, -1]


def test_a_wholly_unreadable_batch_is_one_sentence():
    _, stepper = make()
    batch = make_batch()
    empty = {k: v[:0] if isinstance(v, torch.Tensor) else [] for k, v in batch.items()}
    with pytest.raises(DataError, match="unreadable"):
        stepper.step(empty, 0)


def test_the_base_passes_floats_and_normalises_bytes():
    config = Config(model_name="toy", mean=[0.5, 0.25, 0.0], std=[0.5, 0.5, 1.0])
    detector = Detector(config)
    image = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ready = detector.prepare({"image": image})["image"]
    wanted = (image.numpy() / 255 - np.array([0.5, 0.25, 0.0])[:, None, None]) / np.array([0.5, 0.5, 1.0])[
        :, None, None
    ]
    np.testing.assert_allclose(ready.numpy(), wanted, atol=1e-6)
    assert detector.prepare({"image": ready})["image"] is ready
    clip = torch.zeros((2, 5, 3, 4, 4), dtype=torch.uint8)
    assert detector.prepare({"image": clip})["image"].shape == clip.shape
