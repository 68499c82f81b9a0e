"""Self-blended images: what the masks promise, what is drawn, which landmarks are survived, and who can train on them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.faces import give_faces, landmarks, picture
from helpers.pack import write_lmdb, write_pack

from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset import build_loader
from training.dataset.recipes.blending import FACE_SHAPES
from training.detectors import build_detector
from training.detectors.registry import config_class
from training.trainer.distributed import Process
from training.trainer.step import Stepper

LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("sbi")
    found = write_pack(root, frames=4, size=64)
    give_faces(root / "rgb")
    write_lmdb(root)
    return found


def loader(places, **more):
    keys = {
        "model_name": "sbi", "train_dataset": ["FaceForensics++"], "label_dict": LABELS, "dataset_type": "sbi",
        "resolution": 64, "train_batchSize": 8, "workers": 0, "use_data_augmentation": False,
    }  # fmt: skip
    return build_loader(Config(**{**keys, **places, **more}), "train")


@pytest.mark.parametrize("lmdb", [False, True])
def test_pairs_of_real_frames_and_their_blends_exact_outside_the_mask(places, lmdb):
    made = loader(places, lmdb=lmdb)
    seen = 0
    for batch in made:
        assert batch["roles"] == 2
        assert batch["label"].tolist() == [0] * 4 + [1] * 4
        assert batch["method"].tolist() == [0] * 4 + [-1] * 4
        assert batch["video"][:4] == batch["video"][4:]
        assert all("/FF-real/" in video for video in batch["video"])
        assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
        assert batch["mask"].shape == (8, 1, 64, 64)
        real, fake, mask = batch["image"][:4], batch["image"][4:], batch["mask"][4:].bool().expand(-1, 3, -1, -1)
        assert torch.equal(fake[~mask], real[~mask])
        assert (fake[mask] != real[mask]).float().mean() > 0.2
        assert not batch["mask"][:4].any()
        assert all(0.03 < share < 0.7 for share in batch["mask"][4:].float().mean((1, 2, 3)).tolist())
        seen += len(batch["label"])
    assert seen == 24


def drawn(places, seed=0, **options):
    recipe = loader(places, recipe=options).recipe
    rng = np.random.default_rng(seed)
    points = landmarks(rng, 128)
    return recipe, rng, points, picture(rng, points, 128)


def test_the_blend_is_the_mixture_of_the_moved_source_and_the_target(places):
    recipe, rng, points, image = drawn(places)
    sides = set()
    for _ in range(20):
        choice = recipe.choose(rng, 128, 128)
        target, mixed, alpha = recipe.mix(image, points, choice)
        assert alpha.max() == pytest.approx(choice.ratio, abs=0.02)
        sides.add(choice.on_source)
        if choice.on_source:
            np.testing.assert_array_equal(target, image)
            continue
        # The source is then the picture as it was, moved: a matrix that cv2 carries out over the whole picture.
        source = cv2.warpAffine(image, choice.move, (128, 128), borderMode=cv2.BORDER_REFLECT_101)
        assert (target != image).any()
        wanted = target + alpha[..., None].astype(float) * (source.astype(float) - target)
        assert np.abs(mixed - wanted).max() <= 1.01  # a window may round a pixel of the moved source otherwise
    assert sides == {True, False}


def test_what_is_drawn_is_what_the_paper_draws(places):
    recipe, rng, _, _ = drawn(places)
    choices = [recipe.choose(rng, 256, 256) for _ in range(3000)]
    shares = {ratio: np.mean([c.ratio == ratio for c in choices]) for ratio in (0.25, 0.5, 0.75, 1.0)}
    assert shares == {0.25: pytest.approx(1 / 6, abs=0.03), 0.5: pytest.approx(1 / 6, abs=0.03),
                      0.75: pytest.approx(1 / 6, abs=0.03), 1.0: pytest.approx(1 / 2, abs=0.03)}  # fmt: skip
    assert {c.shrink for c in choices} == {c.blur for c in choices} == set(range(5, 26, 2))
    assert {c.shape for c in choices} == set(FACE_SHAPES)
    assert np.mean([c.forehead for c in choices]) == pytest.approx(0.75, abs=0.03)
    assert np.mean([c.on_source for c in choices]) == pytest.approx(0.5, abs=0.03)
    assert all(5 <= c.sigma <= 45 and min(c.size) >= 192 and max(c.size) <= 256 for c in choices)
    scales = np.array([c.move[0, 0] for c in choices])
    assert 0.95 <= scales.min() < 0.955
    assert 1.045 < scales.max() <= 1 / 0.95
    centre = np.array([127.5, 127.5, 1])
    shifts = np.array([c.move @ centre - centre[:2] for c in choices])
    np.testing.assert_array_less(np.abs(shifts).max(0), [0.03 * 256 + 1e-6, 0.015 * 256 + 1e-6])
    assert (np.abs(shifts).max(0) > [7, 3.5]).all()


def test_shapes_differ_and_only_some_reach_the_forehead(places):
    recipe, rng, points, _ = drawn(places)
    choice = recipe.choose(rng, 128, 128)
    areas = {}
    for shape in FACE_SHAPES:
        for forehead in (True, False):
            plain = {**vars(choice), "shape": shape, "forehead": forehead, "noise": np.zeros_like(choice.noise)}
            mask = recipe.mask(points, type(choice)(**plain), 128, 128)
            assert mask.shape == choice.size
            areas[shape, forehead] = (mask > 0).mean()
    assert areas["hull", True] > 1.15 * areas["hull", False]
    assert areas["raised", False] > areas["parts", False]
    assert areas["whole", False] > 0.2


BAD = {
    "one spot": np.full((81, 2), 30.0),
    "a line": np.stack([np.linspace(0, 63, 81)] * 2, axis=1),
    "outside": np.full((81, 2), 5000.0) + np.arange(81)[:, None],
    "far beyond": np.stack([np.linspace(-1e9, 1e9, 81), np.linspace(1e9, -1e9, 81)], axis=1),
    "sixty-eight": None,
}


@pytest.mark.parametrize("name", BAD)
def test_degenerate_landmarks_and_those_without_a_forehead_give_blends_all_the_same(places, name):
    recipe, rng, points, image = drawn(places)
    points = points[:68] if BAD[name] is None else BAD[name]
    for _ in range(12):
        target, mixed, alpha = recipe.mix(image, points, recipe.choose(rng, 128, 128))
        assert 0.005 < (alpha > 0).mean() < 0.95
        assert np.isfinite(alpha).all()
        np.testing.assert_array_equal(mixed[alpha == 0], target[alpha == 0])


def test_files_of_sixty_eight_landmarks_are_read_and_handed_out(tmp_path):
    places = write_pack(tmp_path, frames=2, size=64)
    give_faces(tmp_path / "rgb")
    for path in tmp_path.rglob("*.npy"):
        np.save(path, np.load(path)[:68])
    batch = next(iter(loader(places, train_batchSize=4, with_landmark=True, use_data_augmentation=True)))
    assert batch["landmark"].shape == (4, 68, 2)
    assert batch["mask"][2:].flatten(1).any(1).all()


def test_augmentation_is_shared_by_the_two(places):
    still = {
        "rotate_prob": 0,
        "blur_prob": 0,
        "brightness_prob": 0,
        "rescale_prob": 0,
        "compress_prob": 0,
        "flip_prob": 0.5,
    }
    bright = {"shared": {"light_prob": 1, "brightness": 0.3}}
    made, plain = (loader(places, use_data_augmentation=on, data_aug=still, recipe=bright) for on in (True, False))
    changed = 0
    for batch, without in zip(made, plain, strict=True):
        real, fake, mask = batch["image"][:4], batch["image"][4:], batch["mask"][4:].bool().expand(-1, 3, -1, -1)
        assert torch.equal(fake[~mask], real[~mask])
        changed += (real != without["image"][:4]).flatten(1).any(1).sum()
    assert changed >= 9


def test_real_fakes_come_in_their_share_of_the_same_person_with_their_masks(places):
    made = loader(places, recipe={"real_fakes": 0.5}, with_mask=True)
    rows = made.recipe.draws(3, 0)
    mine = rows[:, 2] >= 0
    assert mine.sum() == 6 == len(rows) // 2
    assert (made.index.label[rows[mine, 2]] == 1).all()
    assert (made.index.target[rows[mine, 2]] == made.index.target[rows[mine, 0]]).all()
    assert (rows[mine, 3] < made.index.frames[rows[mine, 2]]).all()
    assert (made.recipe.draws(3, 1)[:, 2] != rows[:, 2]).any()
    np.testing.assert_array_equal(made.recipe.draws(3, 0), rows)
    methods, masks = [], []
    for batch in made:
        assert batch["label"].tolist() == [0] * 4 + [1] * 4
        methods += batch["method"][4:].tolist()
        masks += batch["mask"][4:].flatten(1).sum(1).tolist()
    assert methods.count(-1) == 6
    assert all(area == 16 * 16 for method, area in zip(methods, masks, strict=True) if method > 0)


def test_real_fakes_need_fakes(places, tmp_path):
    whole = json.loads(Path(places["dataset_json_folder"], "FaceForensics++.json").read_text())["FaceForensics++"]
    (tmp_path / "FaceForensics++.json").write_text(json.dumps({"FaceForensics++": {"FF-real": whole["FF-real"]}}))
    alone = {**places, "dataset_json_folder": str(tmp_path)}
    assert len(next(iter(loader(alone)))["label"]) == 8
    lonely = loader(alone, recipe={"real_fakes": 0.5})
    with pytest.raises(DataError, match="real_fakes needs fake videos"):
        lonely.draws()


def test_the_method_s_w_learns_from_the_blends_masks(places):
    """`clip_crossdomain` on self-blended images: the boundary loss reads the recipe's masks."""
    keys = {
        "model_name": "clip_crossdomain", "backbone_name": "tiny", "pretrained": None, "resolution": 64, "with_mask": True,
        "freq_adapter": {"channels": 8}, "boundary": {"channels": 8}, "losses": {"boundary": 0.3, "consistency": 0.0},
        "optimizer": {"type": "adam", "adam": {"lr": 0.01}}, "train_dataset": ["FaceForensics++"], "label_dict": LABELS,
        "dataset_type": "sbi", "train_batchSize": 8, "workers": 0, "slerp": False, **places,
    }  # fmt: skip
    config = config_class("clip_crossdomain")(**keys)
    made = build_loader(config, "train")
    batch = next(iter(made))
    losses = []
    for mask in (batch["mask"], torch.zeros_like(batch["mask"])):
        torch.manual_seed(0)
        detector = build_detector(config, made.info)
        stepper = Stepper(detector, config, Process(0, 1, torch.device("cpu")), 30, 3)
        losses.append(stepper.step({**batch, "mask": mask}, 0)[0]["boundary"])
        reached = [p.grad is not None and bool(p.grad.any()) for p in detector.boundary.parameters() if p.requires_grad]
        assert any(reached) == bool(mask.any())
    assert losses[0] > 0.1
    assert losses[1] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ratios": [0.0]}, "ratios"),
        ({"real_fakes": 2}, "real_fakes"),
        ({"look": {"rgd": 3}}, "look.rgd"),
        ({"blur": 3}, "blur"),
    ],
)
def test_mistakes_are_named(places, options, said):
    with pytest.raises(ConfigError, match=rf"recipe\.{said}"):
        loader(places, recipe=options)
