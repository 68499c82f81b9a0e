"""F³-Net: agreement with the reference, frequency views against SciPy, mixing, gradients, and that it can learn."""

import logging

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch
from scipy.fft import dctn, idctn

from common.errors import WeightsError
from training.detectors.parts.f3net.cross_stream import MixBlock
from training.detectors.parts.f3net.frequency_bands import FrequencyComponents, LocalStatistics

SMALL = {"resolution": 64}


@pytest.fixture(scope="module")
def reference():
    return filled(build("f3net", branches="fad"), prefix="module.")


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-5)


def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def diagonals(size):
    return np.add.outer(np.arange(size), np.arange(size))


def squash(learned):
    return 2 / (1 + np.exp(-learned.detach().numpy().astype(float))) - 1


def test_components_are_filtered_cosine_transforms():
    torch.manual_seed(0)
    size, module = 32, FrequencyComponents(32)
    image, order = np.random.default_rng(0).normal(size=(3, size, size)), diagonals(32)
    bands = [order <= 11, (order >= 11) & (order <= 16), order >= 16, order >= 0]  # 32 // 2.82, 32 // 2
    with torch.no_grad():
        found = module(torch.tensor(image)[None].float())[0].unflatten(0, (4, 3)).numpy()
    for part, band, learned in zip(found, bands, squash(module.learned), strict=True):
        wanted = [idctn(dctn(channel, norm="ortho") * (band + learned), norm="ortho") for channel in image]
        np.testing.assert_allclose(part, wanted, atol=1e-4)


def test_bands_hold_the_papers_shares_of_the_spectrum():
    shares = FrequencyComponents(256).band.mean((1, 2)).tolist()
    assert shares == pytest.approx([1 / 16, 1 / 16, 7 / 8, 1], abs=0.004)


def test_statistics_are_windows_summed_by_band():
    torch.manual_seed(0)
    module, pixels = LocalStatistics(), np.random.default_rng(0).uniform(0, 255, size=(3, 20, 20))
    with torch.no_grad():
        found = module(torch.tensor(pixels)[None].float())[0].numpy()
    grey = np.pad(np.tensordot([0.299, 0.587, 0.114], pixels, 1), 4)
    order, learned = diagonals(10), squash(module.learned).reshape(6, 10, 10)
    edges = np.linspace(0, 20, 7)
    assert found.shape == (6, 10, 10)
    for row in range(10):
        for column in range(10):
            window = dctn(grey[2 * row : 2 * row + 10, 2 * column : 2 * column + 10], norm="ortho")
            for band in range(6):
                kept = ((order >= edges[band]) & (order <= edges[band + 1])) + learned[band]
                assert found[band, row, column] == pytest.approx(np.log10(np.abs(kept * window).sum()), abs=1e-3)


def test_streams_read_from_each_other():
    torch.manual_seed(0)
    module = MixBlock(16).eval()
    x, y = torch.randn(2, 1, 16, 2, 3)
    with torch.no_grad():
        for before, after in zip((x, y), module(x, y), strict=True):
            assert torch.equal(before, after)  # closed at first
        for reader in module.readers:
            reader.gamma.fill_(0.5)
        new_x, new_y = module(x, y)

    def apply(conv, value):
        return conv.weight.detach().numpy()[..., 0, 0] @ value + conv.bias.detach().numpy()[:, None]

    def softmax(value):
        return np.exp(value) / np.exp(value).sum(-1, keepdims=True)

    a, b = x[0].flatten(1).numpy(), y[0].flatten(1).numpy()
    affinity = apply(module.queries[0], a).T @ apply(module.queries[1], b) / np.sqrt(2)
    norm = 1 / np.sqrt(1 + 1e-5)
    wanted_x = a + 0.5 * norm * apply(module.readers[0].value, b) @ softmax(affinity).T
    wanted_y = b + 0.5 * norm * apply(module.readers[1].value, a) @ softmax(affinity.T).T
    np.testing.assert_allclose(new_x[0].flatten(1), wanted_x, atol=1e-5)
    np.testing.assert_allclose(new_y[0].flatten(1), wanted_y, atol=1e-5)


def test_the_cross_entropy_is_numpys(reference):
    cls, label = np.random.default_rng(0).normal(size=(4, 2)), np.array([0, 1, 1, 0])
    losses = reference.get_losses({"label": torch.tensor(label)}, {"cls": torch.tensor(cls)})
    wanted = np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(4), label])
    assert float(losses["cls"]) == pytest.approx(wanted, rel=1e-5)
    assert float(losses["overall"]) == pytest.approx(wanted, rel=1e-5)


def test_gradients_reach_everything_once_the_mixing_has_opened():
    detector = build("f3net", **SMALL)
    with torch.no_grad():
        for block in detector.mix:
            for reader in block.readers:
                reader.gamma.fill_(0.5)
    check_gradients(detector, face_batch(6, 64))


@pytest.mark.parametrize("branches", ["lfs", "both"])
def test_streams_stand_alone_and_side_by_side(branches):
    check_gradients(build("f3net", branches=branches, **SMALL), face_batch(4, 64))


def test_learns_a_handful_of_faces():
    assert overfit(build("f3net", **SMALL), face_batch(6, 64), steps=12, lr=1e-3) == 1.0


def test_published_weights_bring_their_stream(caplog, reference):
    with caplog.at_level(logging.WARNING):
        detector = filled(build("f3net"))
    assert "no stream `lfs`" in caplog.text
    assert list(detector.streams) == ["fad"]
    assert {name for name, _ in detector.named_parameters()} == {name for name, _ in reference.named_parameters()}


def test_other_weights_are_refused(reference):
    state = reference.state_dict()
    with pytest.raises(WeightsError, match=r"`streams\.fad\.view\.\w+` has shape .*256"):
        build("f3net", branches="fad", **SMALL).load_weights(state)
    with pytest.raises(WeightsError, match=r"missing, first `streams\.fad\.trunk\.block12"):
        reference.load_weights({key: value for key, value in state.items() if "block12" not in key})


def test_sizes_at_which_streams_do_not_meet_are_refused():
    with pytest.raises(ValueError, match="resolution 104"):
        build("f3net", resolution=104)
    build("f3net", resolution=104, branches="fad")
