"""Augmentation moves image, mask and landmarks together, and depends on the generator alone."""

import numpy as np
import pytest

from training.config.schema import DataAug
from training.dataset.augmentation import MIRROR, Augmentation, Plan

OFF = {"flip_prob": 0, "rotate_prob": 0, "blur_prob": 0, "brightness_prob": 0, "compress_prob": 0, "rescale_prob": 0}


def make(**keys) -> Augmentation:
    return Augmentation(DataAug(**{**OFF, **keys}))


def scene(size=64):
    """An image that is black but for a white square, its mask, and the square's corners."""
    image, mask = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    image[20:30, 34:50], mask[20:30, 34:50] = 255, 1
    return image, mask


def test_all_off_is_the_identity():
    image, mask = scene()
    augmentation = make()
    plan = augmentation.plan(np.random.default_rng(0))
    assert np.array_equal(augmentation.image(image, plan), image)
    assert np.array_equal(augmentation.mask(mask, plan), mask)


def test_flip_moves_the_mask_and_swaps_the_names_of_landmarks():
    image, mask = scene()
    augmentation = make(flip_prob=1)
    plan = augmentation.plan(np.random.default_rng(0))
    assert np.array_equal(augmentation.image(image, plan)[..., 0] > 0, augmentation.mask(mask, plan) > 0)
    points = np.random.default_rng(1).uniform(0, 63, (81, 2)).astype(np.float32)
    moved = augmentation.landmark(points, plan, 64, 64)
    for index in range(81):
        assert moved[index] == pytest.approx([63 - points[MIRROR[index], 0], points[MIRROR[index], 1]])
    # The right eye's outer corner (36) and the left eye's (45) change places; the chin stays.
    assert (MIRROR[36], MIRROR[45], MIRROR[8], MIRROR[48]) == (45, 36, 8, 54)
    assert np.array_equal(MIRROR[MIRROR], np.arange(81))


def test_rotation_moves_pixels_mask_and_points_alike():
    image, mask = scene()
    augmentation = make(rotate_prob=1, rotate_limit=[30, 30])
    plan = augmentation.plan(np.random.default_rng(0))
    turned, moved = augmentation.image(image, plan)[..., 0] > 127, augmentation.mask(mask, plan) > 0
    assert (turned == moved).mean() > 0.99
    middle = np.array([[(34 + 49) / 2, (20 + 29) / 2]], np.float32).repeat(68, 0)
    point = augmentation.landmark(middle, plan, 64, 64)[0]
    ys, xs = np.nonzero(moved)
    assert point == pytest.approx([xs.mean(), ys.mean()], abs=0.6)


def test_same_generator_same_result_and_probabilities_do_not_shift_each_other():
    image = np.random.default_rng(3).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    augmentation = Augmentation(DataAug())
    a = augmentation.image(image, augmentation.plan(np.random.default_rng(5)))
    b = augmentation.image(image, augmentation.plan(np.random.default_rng(5)))
    assert np.array_equal(a, b)
    assert a.shape == image.shape
    assert a.dtype == np.uint8
    plain = make(compress_prob=1).plan(np.random.default_rng(5))
    assert make(compress_prob=1, flip_prob=1).plan(np.random.default_rng(5)).quality == plain.quality


@pytest.mark.parametrize(
    "keys",
    [{"blur_prob": 1}, {"brightness_prob": 1}, {"compress_prob": 1, "quality_upper": 50}],
)
def test_each_step_changes_the_pixels_and_leaves_mask_and_points(keys):
    image = np.random.default_rng(3).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    augmentation = make(**keys)
    plan = augmentation.plan(np.random.default_rng(2))
    assert not np.array_equal(augmentation.image(image, plan), image)
    mask = (image[..., 0] > 100).astype(np.uint8)
    assert np.array_equal(augmentation.mask(mask, plan), mask)
    points = np.random.default_rng(1).uniform(0, 47, (81, 2)).astype(np.float32)
    assert np.array_equal(augmentation.landmark(points, plan, 48, 48), points)


def test_fancy_pca_moves_all_pixels_along_the_principal_colours():
    """By the definition, with NumPy's covariance: nothing shared with the step but `eigh`."""
    rng = np.random.default_rng(0)
    grey = rng.normal(0, 30, (40, 50, 1)) + np.array([150, 120, 100]) + rng.normal(size=(40, 50, 3)) * [4, 9, 16]
    image = grey.clip(30, 220).astype(np.uint8)
    amounts = (1.5, -2.0, 0.8)
    moved = make().image(image, Plan(pca=amounts))
    colours = image.reshape(-1, 3) / 255
    variance, axes = np.linalg.eigh(np.cov(colours.T))
    shift = sum(
        a * v * (axis if axis.sum() >= 0 else -axis) for a, v, axis in zip(amounts, variance, axes.T, strict=True)
    )
    wanted = (colours + shift) * 255
    assert np.abs(moved.reshape(-1, 3) - wanted).max() <= 0.5 + 1e-6
    assert np.abs(shift * 255).max() > 2


def test_one_of_three_colour_steps_is_drawn_each_as_often():
    augmentation, rng = make(brightness_prob=0.6), np.random.default_rng(0)
    plans = [augmentation.plan(rng) for _ in range(6000)]
    kinds = [(bool(p.brightness or p.contrast), bool(p.pca), bool(p.hue or p.saturation or p.value)) for p in plans]
    assert max(map(sum, kinds)) == 1
    for share in np.mean(kinds, axis=0):
        assert share == pytest.approx(0.2, abs=0.02)
    amounts = np.array([p.pca for p in plans if p.pca])
    assert amounts.std(axis=0) == pytest.approx([0.1] * 3, abs=0.01)
    assert np.abs(np.corrcoef(amounts.T) - np.eye(3)).max() < 0.1, "every axis has an amount of its own"


def test_frequencies_follow_the_probabilities():
    augmentation = Augmentation(DataAug(flip_prob=0.3, rotate_prob=0.6, blur_prob=0.1))
    rng = np.random.default_rng(0)
    plans = [augmentation.plan(rng) for _ in range(4000)]
    assert np.mean([p.flip for p in plans]) == pytest.approx(0.3, abs=0.03)
    assert np.mean([p.angle != 0 for p in plans]) == pytest.approx(0.6, abs=0.03)
    assert np.mean([p.blur > 0 for p in plans]) == pytest.approx(0.1, abs=0.03)
    assert {p.blur for p in plans} <= {0, 3, 5, 7}


def test_every_landmark_has_its_mirror_image():
    """On a face that is symmetric about x = 0, landmark MIRROR[i] lies where i's mirror image does."""
    x, y = np.zeros(81), np.zeros(81)
    x[:17], y[:17] = np.arange(-8, 9), np.abs(np.arange(-8, 9)) - 20  # jaw
    x[17:27] = [-6, -5, -4, -3, -2, 2, 3, 4, 5, 6]
    y[17:27] = 9
    y[27:31] = [8, 7, 6, 5]  # ridge of the nose
    x[31:36], y[31:36] = [-2, -1, 0, 1, 2], 4  # nostrils
    x[36:48] = [-5, -4, -3, -2, -3, -4, 2, 3, 4, 5, 4, 3]
    y[36:48] = [7, 7.5, 7.5, 7, 6.5, 6.5] * 2
    x[48:60], y[48:60] = [-3, -2, -1, 0, 1, 2, 3, 2, 1, 0, -1, -2], [0] + [1] * 5 + [0] + [-1] * 5
    x[60:68], y[60:68] = [-2.5, -1, 0, 1, 2.5, 1, 0, -1], [0, 0.5, 0.5, 0.5, 0, -0.5, -0.5, -0.5]
    temple_to_temple = [77, 75, 76, 68, 69, 70, 71, 80, 72, 73, 79, 74, 78]
    x[temple_to_temple], y[temple_to_temple] = np.arange(-6, 7), 20
    assert np.array_equal(x[MIRROR], -x)
    assert np.array_equal(y[MIRROR], y)
    assert sorted(MIRROR) == list(range(81))


def test_brightness_and_contrast_are_what_their_keys_say():
    image = np.full((4, 4, 3), 100, np.uint8)
    steps = dict(Plan().__dict__)
    assert (make().image(image, Plan(**steps | {"brightness": 0.1})) == 126).all()  # 100 + 25.5, to even
    assert (make().image(image, Plan(**steps | {"contrast": 0.5})) == 150).all()
    assert (make().image(image, Plan(**steps | {"contrast": -0.5})) == 50).all()
    augmentation = make(brightness_prob=1, brightness_limit=[0.2, 0.2], contrast_limit=[0.3, 0.3])
    plans = [augmentation.plan(np.random.default_rng(seed)) for seed in range(40)]
    light = [(plan.brightness, plan.contrast) for plan in plans if plan.brightness]
    assert len(light) > 5
    assert set(light) == {(0.2, 0.3)}


def test_jpeg_is_that_of_another_encoder_colours_in_their_places():
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=30)
    theirs = np.asarray(Image.open(file)).astype(int)
    ours = make().image(image, Plan(quality=30)).astype(int)
    exchanged = make().image(image[..., ::-1].copy(), Plan(quality=30))[..., ::-1].astype(int)
    assert np.abs(ours - theirs).mean() < 0.3 * np.abs(exchanged - theirs).mean()
