"""SIA: agreement with the reference, its attention, gradients, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors.parts.sia import Link, SelfInformation, channel_differences


@pytest.fixture(scope="module")
def reference():
    """As DeepfakeBench normalises: over the batch."""
    return filled(build("sia", deviation_over="batch"), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-4)


def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def test_alone_a_face_is_answered_as_by_the_reference_and_beside_others_too(reference):
    own = build("sia").eval()
    own.load_weights(reference.state_dict())
    contrast = torch.tensor([0.2, 1.5]).view(2, 1, 1, 1)
    image = torch.randn((2, 3, 128, 128), generator=torch.Generator().manual_seed(0)) * contrast
    with torch.no_grad():
        theirs = torch.cat([reference.eval()({"image": one[None]})["cls"] for one in image])
        together, ours = reference({"image": image})["cls"], own({"image": image})["cls"]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together, theirs, rtol=1e-3, atol=1e-3)


def weighed(x: np.ndarray, scope: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighed map and u, straight from the definition: feature by feature."""
    channels = x.shape[1]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    within = np.abs(9 * x - windows.sum((-1, -2)))
    row = [x[:, c] - x[:, (c + i) % channels] for i in range(1, 6) for c in range(channels)]
    between = np.abs(np.stack([sum(row[5 * c : 5 * c + 5]) for c in range(channels)], axis=1))
    deviation = within + 0.5 * between
    mean = deviation.mean((1, 2, 3), keepdims=True) if scope == "image" else deviation.mean()
    u = deviation / mean / 2
    channel = 1 + np.mean(-np.log(np.exp(-u) + 0.1), axis=(2, 3), keepdims=True)
    return x * (1 + 1 / (1 + np.exp(-u))) * channel, u


@pytest.mark.parametrize("scope", ["image", "batch"])
def test_attention_is_self_information(scope):
    x = np.random.default_rng(0).normal(size=(3, 8, 5, 6)) * np.array([0.1, 1, 3]).reshape(3, 1, 1, 1)
    found, unexpected = SelfInformation(8, scope)(torch.tensor(x, dtype=torch.float32))
    wanted, u = weighed(x, scope)
    np.testing.assert_allclose(unexpected.numpy(), u, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_a_constant_map_has_finite_attention_and_half_precision_the_same():
    attend = SelfInformation(8, "image")
    assert torch.isfinite(attend(torch.zeros(2, 8, 4, 4))[0]).all()
    x = 100 + torch.rand((2, 8, 6, 6), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        unexpected = attend(x)[1]
    torch.testing.assert_close(unexpected, attend(x)[1])


def test_differences_cancel_where_channels_agree():
    matrix = channel_differences(32)
    assert not matrix.sum(1).any()
    assert (matrix.abs().sum(1) > 0).all()


def test_no_gradient_passes_through_the_weights():
    x = torch.rand((2, 8, 4, 4), generator=torch.Generator().manual_seed(0)).requires_grad_()
    attend = SelfInformation(8, "image")
    y, unexpected = attend(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach())  # y is x times constants
    assert not unexpected.requires_grad
    assert not list(attend.parameters())


def test_a_link_takes_the_shape_of_its_target():
    assert Link(32, 56).onto(torch.rand(2, 32, 63, 63), torch.rand(2, 56, 32, 32)).shape == (2, 56, 32, 32)


def test_the_loss_is_cross_entropy():
    detector, batch = build("sia").eval(), face_batch(4, 64)
    cls = np.random.default_rng(0).normal(size=(4, 2))
    losses = detector.get_losses(batch, {"cls": torch.tensor(cls)})
    wanted = np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(4), batch["label"].numpy()])
    assert {name: float(value) for name, value in losses.items()} == {
        "overall": pytest.approx(wanted, rel=1e-5), "cls": pytest.approx(wanted, rel=1e-5),
    }  # fmt: skip


def test_gradients_reach_everything():
    check_gradients(build("sia"), face_batch(6, 64))


def test_learns_a_handful_of_faces():
    assert overfit(build("sia"), face_batch(6, 64), steps=12, lr=1e-3) == 1.0


def test_weights_without_attention_are_refused(reference):
    state = {key: value for key, value in reference.state_dict().items() if "attention16" not in key}
    with pytest.raises(WeightsError, match=r"attention16\.(window|centre)"):
        reference.load_weights(state)


def test_its_files_differ_in_what_deviations_are_divided_by():
    paper, benchmark = (load_config(CONFIG_DIR / "detector" / f"{n}.yaml") for n in ("sia", "sia_benchmark"))
    assert (paper.deviation_over, benchmark.deviation_over) == ("image", "batch")
    assert paper.backbone_config == benchmark.backbone_config
    assert paper.backbone_config.drop_path == 0
