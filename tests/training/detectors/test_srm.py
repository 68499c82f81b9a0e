"""SRM: agreement with the reference, filters, attention, gradients, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import WeightsError
from training.detectors.parts.srm.noise_residual import CrossModalityAttention, NoiseFeatures, NoiseImage
from training.ops.srm_filters import srm_filters

SMALL = {"resolution": 64}


@pytest.fixture(scope="module")
def reference():
    return filled(build("srm"), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference)


def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "am_softmax": "overall"})
    assert all(p.grad is not None for p in reference.parameters())


def test_the_filters_are_those_of_the_spatial_rich_model():
    small, large, horizontal = srm_filters().numpy()
    np.testing.assert_allclose(4 * small[1:4, 1:4], [[-1, 2, -1], [2, -4, 2], [-1, 2, -1]])
    assert np.abs(small).sum() == pytest.approx(4)
    np.testing.assert_allclose(12 * large[2], [-2, 8, -12, 8, -2], atol=1e-6)
    np.testing.assert_allclose(12 * large[0], [-1, 2, -2, 2, -1], atol=1e-6)
    np.testing.assert_allclose(12 * large[1, :3], [2, -6, 8], atol=1e-6)
    for picture in (large, large.T):
        np.testing.assert_allclose(picture, picture[::-1])
    np.testing.assert_allclose(2 * horizontal[2], [0, 1, -2, 1, 0])
    assert not horizontal[[0, 1, 3, 4]].any()


def test_smooth_pictures_leave_no_noise_and_large_residuals_are_cut_off():
    ramp = torch.linspace(-1, 1, 20).expand(1, 3, 20, 20)
    assert NoiseImage()(ramp)[..., 3:-3, 3:-3].abs().max() < 1e-5
    checks = (torch.arange(20) % 2 * 20.0 - 10).expand(1, 3, 20, 20)
    assert NoiseImage()(checks).abs().max() == 3


def test_residuals_of_features_follow_the_published_order():
    module = NoiseFeatures(6).eval()
    kernels, filters = module.kernel[:, 0], srm_filters()
    # Filters stand in runs: the six outputs of the first two channels all are the first filter's.
    for output in range(18):
        assert torch.equal(kernels[output], filters[output // 6])


def test_streams_read_from_matching_places():
    module = CrossModalityAttention(16, places=4).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.5)
        x, y = torch.randn(2, 1, 16, 2, 2, generator=rng)
        new_x, new_y = module(x, y)

    def apply(conv, value):
        return conv.weight.detach().numpy()[..., 0, 0] @ value + conv.bias.detach().numpy()[:, None]

    def softmax(value):
        return np.exp(value) / np.exp(value).sum(-1, keepdims=True)

    a, b = x[0].flatten(1).numpy(), y[0].flatten(1).numpy()
    keys = [apply(module.key_conv_share, apply(c, v)) for c, v in ((module.key_conv1, a), (module.key_conv2, b))]
    linear = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in (module.linear1, module.linear2)]
    affinity = keys[0].T @ keys[1]
    x_reads = softmax(affinity @ linear[0][0].T + linear[0][1])
    y_reads = softmax(affinity.T @ linear[1][0].T + linear[1][1])
    gamma = [g.item() for g in (module.gamma1, module.gamma2)]
    np.testing.assert_allclose(new_x[0].flatten(1), a + gamma[0] * apply(module.value_conv2, b) @ x_reads.T, atol=1e-4)
    np.testing.assert_allclose(new_y[0].flatten(1), b + gamma[1] * apply(module.value_conv1, a) @ y_reads.T, atol=1e-4)


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_gradients_reach_everything_once_the_attention_has_opened(head):
    detector = build("srm", head=head, **SMALL)
    with torch.no_grad():
        for module in (detector.dual_cma0, detector.dual_cma1):
            # They begin at 0, where nothing flows to what lies behind them yet.
            module.gamma1.fill_(0.5)
            module.gamma2.fill_(0.5)
    check_gradients(detector, face_batch(6, 64))


def test_cosine_scores_are_cosines():
    detector, batch = build("srm", head="cosine", **SMALL).eval(), face_batch(4, 64)
    with torch.no_grad():
        prediction = detector(batch)
    pooled, weight = prediction["feat"].mean((2, 3)).numpy(), detector.head.weight.detach().numpy()
    wanted = pooled @ weight.T / np.linalg.norm(pooled, axis=1)[:, None] / np.linalg.norm(weight, axis=1)
    np.testing.assert_allclose(prediction["cls"], wanted, atol=1e-5)
    odds = np.exp(30 * (wanted[:, 1] - wanted[:, 0]))
    np.testing.assert_allclose(prediction["prob"], odds / (1 + odds), atol=1e-4)


def test_learns_a_handful_of_faces():
    assert overfit(build("srm", **SMALL), face_batch(6, 64), steps=12, lr=1e-3) == 1.0


def test_weights_of_another_resolution_are_refused(reference):
    with pytest.raises(WeightsError, match=r"linear1\.weight` has shape \(256, 256\) there"):
        build("srm", **SMALL).load_weights(reference.state_dict())
