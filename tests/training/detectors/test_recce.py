"""RECCE: agreement with the reference, its terms and parts, gradients, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import WeightsError
from training.detectors.parts.recce.reconstruction import FinerScale, ResidualAttention


@pytest.fixture(scope="module")
def reference():
    """Filled with the reference's keys, whose losses it has too."""
    return filled(build("recce", reconstruction_weight=0.0, metric_weight=0.0), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-5)


def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


@pytest.mark.parametrize("flood", [0.0, 0.04, 5.0])
def test_the_sum_is_the_papers(flood):
    detector, batch = build("recce", flood=flood), face_batch(6, 32)
    rng = np.random.default_rng(0)
    cls, rebuilt = rng.normal(size=(6, 2)), rng.normal(size=(6, 3, 32, 32))
    rows = [rng.normal(size=(6, 9)) for _ in range(3)]
    prediction = {"cls": cls, "reconstruction": rebuilt, **{f"embedding_{i}": r for i, r in enumerate(rows)}}
    losses = detector.get_losses(batch, {key: torch.tensor(value) for key, value in prediction.items()})
    label = batch["label"].numpy()
    entropy = np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(6), label])
    reconstruction = np.abs(batch["image"].numpy() - rebuilt)[label == 0].mean()
    metric = 0.0
    for r in rows:
        unit = r / np.linalg.norm(r, axis=1, keepdims=True)
        distance = (1 - unit @ unit.T) / 2
        metric += 1 + distance[:3, :3].sum() / 6 - distance[:3, 3:].mean()
    assert float(losses["cls"]) == pytest.approx(entropy, rel=1e-5)
    assert float(losses["reconstruction"]) == pytest.approx(reconstruction, rel=1e-5)
    assert float(losses["metric"]) == pytest.approx(metric, rel=1e-5)
    held = abs(entropy - flood) + flood
    assert float(losses["overall"]) == pytest.approx(held + 0.1 * reconstruction + 0.1 * metric, rel=1e-5)


def test_a_finer_map_is_read_place_by_place():
    """Against loops over the places of a 2×2 map and the four places under each."""
    torch.manual_seed(0)
    module = FinerScale(channels=5, finer=3, width=4, ratio=2).eval()
    x, place, finer = torch.randn(1, 5, 2, 2), torch.randn(1, 4, 2, 2), torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        found = module(x, place, finer)[0].numpy()
    gate = module.gate.weight.detach().numpy()[..., 0, 0]
    first, second = (module.embed[i].weight.detach().numpy() for i in (0, 2))
    weigh = module.weigh.weight.detach().numpy()[0]
    for i in range(2):
        for j in range(2):
            own, about = x[0, :, i, j].numpy(), place[0, :, i, j].numpy()
            under = [finer[0, :, 2 * i + a, 2 * j + b].numpy() for a in range(2) for b in range(2)]
            embedded = [second @ np.maximum(0, first @ u) for u in under]
            score = np.array([max(0, weigh @ np.concatenate([about, e])) for e in embedded])
            share = np.exp(score) / np.exp(score).sum()
            taken = sum(s * e for s, e in zip(share, embedded, strict=True))
            np.testing.assert_allclose(found[:, i, j], taken * (1 - 1 / (1 + np.exp(-gate @ own))), atol=1e-5)


def test_attention_sees_failures_only():
    torch.manual_seed(0)
    module = ResidualAttention(6).eval()
    x, image = torch.randn(2, 6, 4, 4), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        # Without a failure the gate is open half-way everywhere, whatever the picture shows.
        torch.testing.assert_close(module(x, image, image), 0.5 * module.transform(x) + x)
        worse = image.clone()
        worse[:, :, 8:, 8:] += 1
        changed = (module(x, image, worse) - module(x, image, image)).abs().sum((0, 1)) > 1e-6
    assert changed[2:, 2:].any()
    assert not changed[0, 0]


@pytest.mark.parametrize("weight", [0.1, 0.0])
def test_gradients_reach_everything(weight):
    check_gradients(build("recce", reconstruction_weight=weight, metric_weight=weight), face_batch(6, 64))


def test_learns_a_handful_of_faces():
    assert overfit(build("recce", drop_rate=0.0), face_batch(6, 64), steps=15, lr=1e-3) == 1.0


def test_learns_to_rebuild_real_faces():
    # The decoder alone, on features that stay.
    detector, batch = build("recce", drop_rate=0.0).train(), face_batch(4, 32)
    detector.requires_grad_(False).decoder.requires_grad_(True)
    optimizer = torch.optim.Adam(detector.decoder.parameters(), lr=5e-3)
    found = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = detector.get_losses(batch, detector(batch))["reconstruction"]
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.7 * found[0]


def test_inference_reads_the_image_only(reference):
    batch = face_batch(2, 64)
    with torch.no_grad():
        alone, together = reference.eval()({"image": batch["image"]}, inference=True), reference(batch)
    torch.testing.assert_close(alone["prob"], together["prob"])
    assert set(alone) == {"cls", "prob", "feat"}
    assert together["reconstruction"].shape == batch["image"].shape


def test_other_weights_are_refused(reference):
    state = {key: value for key, value in reference.state_dict().items() if not key.startswith("graph")}
    with pytest.raises(WeightsError, match=r"missing, first `graph\."):
        reference.load_weights(state)
