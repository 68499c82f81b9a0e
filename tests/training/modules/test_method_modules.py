"""The method's parts: their mathematics."""

import numpy as np
import pytest
import pywt
import torch

from common.errors import ConfigError
from training.detectors.parts.clip_crossdomain.degrade import blur, quantise_blocks
from training.modules.boundary_mining import BoundaryConfig, BoundaryMining, canny, sobel, weighted_pool
from training.modules.freq_adapter import FreqAdapter, FreqAdapterConfig, SoftHighPass
from training.modules.identity import Discriminator, reversal_strength, reverse_gradient
from training.ops.dct import dct_matrix
from training.ops.srm_filters import srm_filters
from training.ops.wavelet import Wavelet2d

SIZES = [(32, 32), (33, 40), (27, 31), (5, 7)]


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["haar", "db2", "db4", "sym5", "coif1", "bior2.2", "rbio1.3"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [1, 3])
def test_wavelets_equal_pywavelets_and_invert(name, size, levels):
    x = images(2, 3, *size).double()
    approximation, details = Wavelet2d(name)(x, levels)
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        wanted = pywt.wavedec2(x.numpy(), name, level=levels, mode="symmetric", axes=(-2, -1))
    np.testing.assert_allclose(approximation.numpy(), wanted[0], atol=1e-9)
    for got, want in zip(details, wanted[1:], strict=True):
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g.numpy(), w, atol=1e-9)
    back = Wavelet2d(name).inverse(approximation, details, size)
    assert (back - x).abs().max() < 1e-5
    single, parts = Wavelet2d(name)(x.float(), levels)
    assert (Wavelet2d(name).inverse(single, parts, size) - x).abs().max() < 1e-5


def test_wavelets_are_differentiable_and_know_their_names():
    x = images(1, 1, 9, 9).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: Wavelet2d("db2")(v, 2)[1][0][2], (x,))
    with pytest.raises(ConfigError, match="db2"):
        Wavelet2d("db999")


def test_high_pass_follows_its_transfer_function():
    high_pass = SoftHighPass(cutoff=0.2, width=0.01)
    columns = torch.arange(64)
    for frequency, expected in ((4 / 64, 0.0), (24 / 64, 1.0)):
        wave = torch.cos(2 * torch.pi * frequency * columns).expand(1, 1, 64, 64)
        assert (high_pass(wave) - expected * wave).abs().max() < 1e-3
    constant = torch.full((1, 3, 20, 31), 0.7)
    assert high_pass(constant).abs().max() < 1e-5
    x = images(1, 2, 21, 32)
    full = np.fft.fft2(x.numpy())
    radius = np.hypot(np.fft.fftfreq(21)[:, None], np.fft.fftfreq(32)[None, :])
    wanted = np.fft.ifft2(full / (1 + np.exp(-(radius - 0.2) / 0.01))).real
    np.testing.assert_allclose(high_pass(x).detach().numpy(), wanted, atol=1e-5)


def test_high_pass_learns_its_cutoff():
    high_pass = SoftHighPass()
    high_pass(images(1, 3, 32, 32)).square().sum().backward()
    assert high_pass.cutoff.grad.abs() > 0
    assert high_pass.log_width.grad.abs() > 0


@pytest.mark.parametrize("branches", [["fft"], ["dwt"], ["fft", "dwt"]])
@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_freq_adapter_gives_tokens_and_silent_residuals(branches, size):
    torch.manual_seed(0)
    adapter = FreqAdapter(FreqAdapterConfig(branches=branches, channels=8, levels=2), width=12, depth=4)
    tokens, energies = adapter(images(2, 3, *size), (4, 5))
    assert tokens.shape == (2, 20, 12)
    assert set(energies) == {f"{b}_energy" for b in branches}
    assert all(e.shape == (2, 1, 4, 5) and (e >= 0).all() for e in energies.values())
    residuals = adapter.residuals(tokens)
    assert sorted(residuals) == [0, 2]
    assert all(torch.equal(r, torch.zeros_like(r)) for r in residuals.values())
    sum(r.sum() for r in residuals.values()).backward()
    assert all(gate.grad.abs().sum() > 0 for gate in adapter.gates.values())


def test_freq_adapter_refuses_blocks_that_are_not_there():
    with pytest.raises(ConfigError, match="0 to 3"):
        FreqAdapter(FreqAdapterConfig(inject=[4]), width=12, depth=4)


@pytest.mark.parametrize(
    ("depth", "blocks"), [(2, [0, 1]), (4, [0, 1, 2, 3]), (12, [0, 3, 6, 9]), (24, [0, 6, 12, 18])]
)
def test_blocks_given_as_shares_fit_a_tower_of_any_depth(depth, blocks):
    shares = FreqAdapterConfig(inject=[0.0, 0.25, 0.5, 0.75])
    assert FreqAdapter(shares, width=12, depth=depth).blocks == blocks
    assert FreqAdapter(FreqAdapterConfig(), width=12, depth=depth).blocks == [0, depth // 2]
    mixed = FreqAdapter(FreqAdapterConfig(inject=[0, 1, 0.5]), width=12, depth=depth).blocks
    assert mixed == list(dict.fromkeys([0, 1, depth // 2]))


@pytest.mark.parametrize("wrong", [1.0, 1.5, -0.25, -1, True, "0.5"])
def test_neither_blocks_nor_shares(wrong):
    with pytest.raises(ValueError, match="inject"):
        FreqAdapterConfig(inject=[wrong])


def planted_seam(size=64, seed=0):
    """A smooth image with sensor noise, and a disc whose noise was smoothed away and which is a little brighter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    base = 0.4 + 0.2 * x + 0.1 * y
    disc = np.hypot(y - 0.5, x - 0.5) < 0.28
    image = base + disc * 0.06 + rng.normal(0, 0.004, (size, size))
    return torch.tensor(np.repeat(image[None, None], 3, axis=1), dtype=torch.float32), disc


@pytest.mark.parametrize("edge", ["sobel", "canny"])
def test_w_lies_in_the_unit_interval_and_peaks_on_a_planted_seam(edge):
    torch.manual_seed(0)
    image, disc = planted_seam()
    w = BoundaryMining(BoundaryConfig(edge=edge))(image, (16, 16))[0, 0].detach().numpy()
    assert w.min() >= 0
    assert w.max() <= 1
    cells = disc.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    seam = (cells > 0) & (cells < 1)
    assert seam.flat[w.argmax()]
    assert w[seam].mean() > 2 * w[~seam].mean()


def test_w_stays_in_the_unit_interval_for_any_weights_and_images():
    for seed in range(5):
        torch.manual_seed(seed)
        mining = BoundaryMining(BoundaryConfig(channels=8))
        for parameter in mining.parameters():
            torch.nn.init.normal_(parameter, std=3)
        for image in (torch.zeros(1, 3, 24, 24), torch.ones(1, 3, 24, 24), images(1, 3, 25, 31, seed=seed)):
            w = mining(image, (4, 4))
            assert torch.isfinite(w).all()
            assert (w >= 0).all()
            assert (w <= 1).all()


def test_sobel_passes_gradients_and_canny_does_not():
    x = images(1, 1, 16, 16).requires_grad_()
    sobel(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert not canny(x).requires_grad
    assert set(canny(images(2, 1, 32, 32)).unique().tolist()) <= {0.0, 1.0}
    ramp = torch.linspace(0, 1, 9).expand(1, 1, 9, 9)
    assert sobel(ramp)[0, 0, 4, 4].item() == pytest.approx(1 / 8, rel=1e-4)


def test_residual_filters_are_blind_to_what_is_smooth():
    assert srm_filters().sum(dim=(1, 2)).abs().max() < 1e-6
    evidence = BoundaryMining(BoundaryConfig()).evidence(torch.full((1, 3, 20, 20), 0.3))
    assert evidence.abs().max() < 1e-4


def test_weighted_pool_is_a_weighted_mean():
    tokens, w = images(2, 6, 4), images(2, 1, 2, 3, seed=1)
    t, share = tokens.numpy(), w.numpy().reshape(2, 6)
    wanted = (t * share[..., None]).sum(1) / share.sum(1, keepdims=True)
    np.testing.assert_allclose(weighted_pool(tokens, w).numpy(), wanted, rtol=1e-5)
    np.testing.assert_allclose(weighted_pool(tokens, None).numpy(), t.mean(1), rtol=1e-5)


def test_the_reversed_gradient_is_minus_lambda_times():
    x = images(3, 4).requires_grad_()
    upstream = images(3, 4, seed=1)
    for strength in (0.0, 0.3, 2.0):
        x.grad = None
        y = reverse_gradient(x, strength)
        assert torch.equal(y, x)
        y.backward(upstream)
        assert torch.equal(x.grad, -strength * upstream)


def test_lambda_rises_from_zero_to_one_as_in_the_paper():
    assert reversal_strength(0) == 0
    assert reversal_strength(0.5) == pytest.approx(2 / (1 + np.exp(-5)) - 1)
    assert reversal_strength(1) == pytest.approx(1, abs=1e-4)
    assert reversal_strength(1, top=0.2) == pytest.approx(0.2, abs=1e-4)


def test_discriminator_learns_forward_and_unteaches_backward():
    torch.manual_seed(0)
    head = Discriminator(4, 3, 8)
    head.strength = 0.5
    plain = Discriminator(4, 3, 8)
    plain.load_state_dict(head.state_dict())
    plain.strength = -1.0  # reversal with −1 is the ordinary gradient
    x, y = images(5, 4).requires_grad_(), images(5, 4).requires_grad_()
    for module, value in ((head, x), (plain, y)):
        torch.nn.functional.cross_entropy(module(value), torch.tensor([0, 1, 2, 0, 1])).backward()
    torch.testing.assert_close(x.grad, -0.5 * y.grad)
    for a, b in zip(head.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_discriminator_reads_what_differs_inside_a_narrow_cone():
    torch.manual_seed(0)
    person = torch.arange(8).repeat(16)
    feat = 100 + torch.randn(8, 6)[person] + 0.1 * torch.randn(128, 6)
    head = Discriminator(6, 8, 32)
    head.strength = -1.0
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(feat), person)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * np.log(8)


def test_discriminator_takes_a_sample_that_is_alone():
    torch.manual_seed(0)
    head = Discriminator(4, 3, 8).train()
    for _ in range(200):
        head(images(6, 4) * 2 + 5)
    one = images(1, 4) * 2 + 5
    torch.testing.assert_close(head(one), head.eval()(one))


def test_quantisation_is_exact_at_its_limits_and_like_jpeg_between():
    import cv2

    matrix = dct_matrix(8).double()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(8, dtype=torch.float64), atol=1e-6, rtol=0)
    rng = np.random.default_rng(0)
    gray = cv2.resize(rng.integers(0, 256, (10, 12), dtype=np.uint8), (56, 48), interpolation=cv2.INTER_CUBIC)
    x = torch.tensor(gray / 255.0, dtype=torch.float32).expand(1, 3, -1, -1)
    nearly = quantise_blocks(x, torch.tensor([100.0]))
    assert (nearly - x).abs().max() < 3 / 255
    ours = quantise_blocks(x, torch.tensor([40.0]))[0, 0].numpy() * 255
    theirs = cv2.imdecode(cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_GRAYSCALE)
    # What is left is the rounding of pixels to integers, 0.25 on average; the compression itself moves them by 3.
    assert np.abs(ours - theirs).mean() < 0.4
    assert np.abs(theirs.astype(float) - gray).mean() > 2


def test_blur_equals_opencv():
    import cv2

    x = images(1, 3, 30, 41)
    wanted = cv2.GaussianBlur(x[0].permute(1, 2, 0).numpy(), (9, 9), 1.4, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(blur(x, 1.4)[0].permute(1, 2, 0).numpy(), wanted, atol=1e-5)


def test_w_begins_as_the_residual_alone():
    maps = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        maps.append(BoundaryMining(BoundaryConfig())(planted_seam()[0], (8, 8)))
    assert torch.equal(*maps)


def test_blur_by_matrices_equals_scipys():
    from scipy.ndimage import gaussian_filter

    from training.ops.band_matrix import gaussian_blur

    image = np.random.default_rng(0).random((2, 13, 17))
    mine = gaussian_blur(torch.from_numpy(image), 1.5).numpy()
    # SciPy's `nearest` repeats the border value; radius 4 is round(3 * 1.5).
    np.testing.assert_allclose(mine, gaussian_filter(image, (0, 1.5, 1.5), mode="nearest", radius=4), atol=1e-12)


def test_a_matrix_first_met_without_gradients_serves_training_too():
    from training.ops.band_matrix import gaussian_blur, gaussian_matrix

    gaussian_matrix.cache_clear()
    with torch.inference_mode():
        gaussian_blur(torch.rand(1, 3, 9, 9), 0.7)
    image = torch.rand(1, 3, 9, 9, requires_grad=True)
    gaussian_blur(image, 0.7).square().sum().backward()
    assert image.grad is not None
    assert image.grad.any()
