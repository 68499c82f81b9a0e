"""Looks: drawn within their limits, and carried out as their formulas say."""

import cv2
import numpy as np
import pytest

from training.dataset.recipes.look import Look, LookLimits, apply_look, draw_look


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def test_shifts_of_channels_and_light_are_one_formula(image):
    look = Look(rgb=(12.0, -7.5, 0.0), brightness=0.08, contrast=-0.1)
    wanted = ((image.astype(float) + look.rgb) * 0.9 + 255 * 0.08).round().clip(0, 255)
    np.testing.assert_array_equal(apply_look(image, look), wanted)
    np.testing.assert_array_equal(apply_look(image, Look()), image)


def test_hue_turns_and_saturation_stops_at_its_ends(image):
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(int)
    hsv[..., 0] = (hsv[..., 0] - 4) % 180
    hsv[..., 1] = (hsv[..., 1] + 30).clip(0, 255)
    wanted = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    np.testing.assert_array_equal(apply_look(image, Look(hsv=(-4, 30, 0))), wanted)


def test_shrinking_loses_detail_and_sharpening_adds_it(image):
    smooth = cv2.GaussianBlur(image, (5, 5), 0)

    def detail(x):
        return np.abs(cv2.Laplacian(x.astype(np.float32), cv2.CV_32F)).mean()

    assert detail(apply_look(image, Look(shrink=4))) < detail(apply_look(image, Look(shrink=2))) < 0.7 * detail(image)
    assert detail(apply_look(smooth, Look(sharpen=0.5, lift=1.0))) > 1.5 * detail(smooth)
    assert apply_look(image, Look(shrink=4)).shape == image.shape


def test_sharpening_is_a_mixture_with_the_kernel(image):
    look = Look(sharpen=0.3, lift=0.7)
    kernel = np.full((3, 3), -1.0)
    kernel[1, 1] = 8.7
    sharp = cv2.filter2D(image.astype(np.float64), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    wanted = (0.7 * image + 0.3 * sharp).clip(0, 255)
    assert np.abs(apply_look(image, look) - wanted).max() <= 0.51


def test_draws_stay_within_their_limits_and_follow_their_chances():
    limits, rng = LookLimits(rgb_prob=0.3, hsv_prob=0.5, light_prob=0.2), np.random.default_rng(1)
    looks = [draw_look(limits, rng, [0.2, 0.5]) for _ in range(2000)]
    assert np.mean([any(x.rgb) for x in looks]) == pytest.approx(0.3, abs=0.05)
    assert np.mean([any(x.hsv) for x in looks]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([x.contrast != 0 for x in looks]) == pytest.approx(0.2, abs=0.05)
    assert 18 < max(abs(part) for x in looks for part in x.rgb) <= 20
    assert {part for x in looks for part in x.hsv[:1]} == set(range(-3, 4))
    assert all((x.shrink > 0) != (x.sharpen > 0) for x in looks)
    assert np.mean([x.shrink > 0 for x in looks]) == pytest.approx(0.5, abs=0.05)
    assert {x.shrink for x in looks} == {0, 2, 4}
    assert all(0.2 <= x.sharpen <= 0.5 and 0.5 <= x.lift <= 1 for x in looks if x.sharpen)
    plain = [draw_look(limits, rng) for _ in range(50)]
    assert not any(x.shrink or x.sharpen for x in plain)
