import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from common.errors import ConfigError
from training.dataset.perturbations import KINDS, SEVERITIES, perturb


@pytest.fixture(scope="module")
def frames():
    """Four frames `(4, 128, 128, 3)` of a moving coloured pattern with edges, texture and smooth parts."""
    y, x = np.mgrid[0:128, 0:128] / 128
    texture = np.random.default_rng(0).normal(0, 12, (128, 128, 1))
    out = []
    for t in range(4):
        disc = ((x - 0.45 - 0.02 * t) ** 2 + (y - 0.5) ** 2 < 0.09)[..., None]
        face = np.stack([190 + 40 * np.sin(9 * x), 140 + 40 * y, 110 + 30 * np.cos(14 * y)], axis=-1) + texture
        back = np.stack([60 + 90 * x, 90 + 60 * y, 150 - 80 * x], axis=-1)
        out.append(np.where(disc, face, back))
    return np.stack(out).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_quality_falls_with_severity(frames, kind):
    psnr, ssim = [], []
    for severity in range(1, 6):
        changed = perturb(frames, kind, severity, seed=1, video="a/b")
        assert changed.shape == frames.shape
        assert changed.dtype == np.uint8
        psnr.append(peak_signal_noise_ratio(frames, changed))
        ssim.append(np.mean([structural_similarity(a, b, channel_axis=-1) for a, b in zip(frames, changed)]))
    assert (np.diff(psnr) < 0).all(), psnr
    assert (np.diff(ssim) < 0).all(), ssim


@pytest.mark.parametrize("kind", KINDS)
def test_same_request_same_pixels_and_input_untouched(frames, kind):
    before = frames.copy()
    first, second = (perturb(frames, kind, 3, seed=2, video="a") for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(frames, before)
    assert perturb(frames, kind, 0) is frames


@pytest.mark.parametrize("kind", ["gaussian_noise", "occlusion"])
def test_seed_and_video_choose_the_draw(frames, kind):
    base = perturb(frames, kind, 3, seed=2, video="a")
    assert not np.array_equal(base, perturb(frames, kind, 3, seed=3, video="a"))
    assert not np.array_equal(base, perturb(frames, kind, 3, seed=2, video="b"))


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"h264", "gaussian_noise"}))
def test_frames_do_not_touch_each_other(frames, kind):
    alone = perturb(frames[2:3], kind, 4, video="a")
    assert np.array_equal(perturb(frames, kind, 4, video="a")[2:3], alone)


def test_odd_sides_survive_the_codec(frames):
    odd = frames[:, :61, :43]
    changed = perturb(odd, "h264", 1)
    assert changed.shape == odd.shape
    assert peak_signal_noise_ratio(odd, changed) > 28


def test_parameters_do_what_they_say(frames):
    flat = np.full((1, 64, 64, 3), 128, np.uint8)
    noisy = perturb(flat, "gaussian_noise", 2).astype(float)
    assert noisy.std() == pytest.approx(SEVERITIES["gaussian_noise"][1][1], rel=0.03)
    covered = (perturb(np.zeros((1, 64, 64, 3), np.uint8), "occlusion", 4) == 127).mean()
    assert covered == SEVERITIES["occlusion"][1][3] / 256
    grey = perturb(frames, "saturation", 5)
    assert (np.ptp(grey, axis=-1) == 0).all()
    dark = perturb(frames, "brightness", 3)
    assert dark.mean() / frames.mean() == pytest.approx(SEVERITIES["brightness"][1][2], rel=0.01)
    weak = perturb(frames, "contrast", 4)
    assert weak.std() / frames.std() == pytest.approx(SEVERITIES["contrast"][1][3], rel=0.2)
    blocks = perturb(np.tile(frames, (1, 2, 2, 1)), "pixelation", 4)  # 256 pixels: blocks of 8
    assert (blocks[:, 0:8, 0:8] == blocks[:, :1, :1]).all()


def test_stronger_occlusion_covers_the_weaker(frames):
    black = np.zeros_like(frames)
    masks = [perturb(black, "occlusion", severity) > 0 for severity in (2, 5)]
    assert (masks[1] | ~masks[0]).all()


def test_wrong_requests_name_the_right_ones(frames):
    with pytest.raises(ConfigError, match=r"`fog`.*jpeg"):
        perturb(frames, "fog", 1)
    with pytest.raises(ConfigError, match="0 to 5"):
        perturb(frames, "jpeg", 6)
