"""RFM: agreement with the reference, the attention map and the erasing against their definitions, gradients, learning."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import WeightsError
from training.detectors.base import Clock
from training.detectors.parts.rfm import Erasing, forgery_attention_map


@pytest.fixture(scope="module")
def reference():
    return filled(build("rfm"), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-4)


def test_the_attention_map_is_the_largest_derivative_over_the_colours():
    """Of o_fake − o_real = Σ w · image², the derivative is 2 · w · image."""
    rng = np.random.default_rng(0)
    weight, image = rng.normal(size=(3, 5, 4)), rng.normal(size=(2, 3, 5, 4))
    scale = torch.nn.Parameter(torch.tensor(weight))

    def logits(x):
        fake = (scale * x.square()).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(fake), fake], dim=1)

    found = forgery_attention_map(logits, torch.tensor(image))
    np.testing.assert_allclose(found.numpy(), np.abs(2 * weight * image).max(1, keepdims=True), rtol=1e-6)
    assert scale.grad is None


def by_hand(heat: np.ndarray, blocks: int, largest: int, seed: tuple[int, ...]) -> np.ndarray:
    """Return one image's erased pixels, pixel by pixel, by the same draws."""
    rng = np.random.default_rng(list(seed))
    sides = rng.integers(1, largest + 1, (blocks, 2))
    before = rng.integers(0, sides)
    erased = np.zeros(heat.shape, bool)
    for (height, width), (up, left) in zip(sides, before):
        order = np.argsort(-heat, axis=None, kind="stable")
        y, x = next(divmod(place, heat.shape[1]) for place in order if not erased.flat[place])
        for row in range(y - up, y - up + height):
            for column in range(x - left, x - left + width):
                if 0 <= row < heat.shape[0] and 0 <= column < heat.shape[1]:
                    erased[row, column] = True
    return erased


def test_blocks_lie_around_the_most_suspicious_pixels_that_are_left():
    heat = np.random.default_rng(1).random((4, 1, 24, 20)).astype(np.float32)
    seeds = [(7, 0, place) for place in range(4)]
    erased, noise = Erasing(3, 9)(torch.from_numpy(heat), seeds)
    for row, seed in enumerate(seeds):
        wanted = by_hand(heat[row, 0], 3, 9, seed)
        assert np.array_equal(erased[row, 0].numpy(), wanted)
        assert erased[row, 0].flatten()[heat[row].argmax()]
    assert noise.min() >= 0
    assert noise.max() <= 255
    assert noise.mean() == pytest.approx(127.5, abs=3)
    # A sample's draws are its own, whatever stands beside it.
    alone, own = Erasing(3, 9)(torch.from_numpy(heat[2:3]), seeds[2:3])
    assert torch.equal(alone[0], erased[2])
    assert torch.equal(own[0], noise[2])


def test_training_sees_erased_images_and_prediction_whole_ones():
    detector, batch = build("rfm", erasing={"blocks": 2, "largest": 20}), face_batch(4, 64)
    seen = []
    detector.backbone.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    detector.train().before_step(Clock(3, 10, 5))
    answer = detector(batch)
    whole, erased = seen  # the map is made of the whole image
    assert torch.equal(whole, batch["image"])
    changed = (erased != batch["image"]).any(dim=1)
    assert changed.flatten(1).any(dim=1).all()
    assert 0.001 < changed.float().mean() < 0.5
    assert erased[changed[:, None].expand_as(erased)].abs().max() <= 1  # noise of 0 … 255, normalised
    assert answer["fam"].shape == (4, 1, 64, 64)
    assert all(module.training for module in detector.modules())
    seen.clear()
    detector(batch, inference=True)
    assert len(seen) == 1
    assert torch.equal(seen[0], batch["image"])


def test_the_blocks_follow_the_step_and_the_sample_not_the_batch():
    detector, batch = build("rfm", erasing={"blocks": 1, "largest": 30}), face_batch(4, 64)
    batch["index"] = torch.tensor([5, 6, 7, 8])
    heat = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))

    def erased(step, rows):
        detector.before_step(Clock(step, 10, 5))
        part = {key: value[rows] for key, value in batch.items() if key in ("image", "index")}
        return detector._erased(part, heat[rows])

    whole = erased(2, [0, 1, 2, 3])
    assert torch.equal(erased(2, [2, 3]), whole[2:])
    assert not torch.equal(erased(3, [2, 3]), whole[2:])


def test_the_loss_is_cross_entropy():
    detector, label = build("rfm"), torch.tensor([0, 1, 1])
    cls = np.random.default_rng(2).normal(size=(3, 2))
    losses = detector.get_losses({"label": label}, {"cls": torch.tensor(cls)})
    entropy = np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(3), label.numpy()])
    assert losses["overall"].item() == pytest.approx(entropy, rel=1e-6)


def test_gradients_reach_everything():
    check_gradients(build("rfm", erasing={"blocks": 1, "largest": 16}), face_batch(6, 64))


def test_learns_a_handful_of_faces():
    assert overfit(build("rfm", erasing={"blocks": 1, "largest": 8}), face_batch(6, 64), steps=12, lr=1e-3) == 1.0


def test_other_weights_are_refused(reference):
    state = {key: value for key, value in reference.state_dict().items() if "block12" not in key}
    with pytest.raises(WeightsError, match=r"missing, first `backbone\.block12"):
        reference.load_weights(state)
