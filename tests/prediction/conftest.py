"""A small trained run for all tests of prediction."""

import numpy as np
import pytest
from helpers.drawn import draw_face, scene, write_video
from helpers.pack import write_pack
from helpers.training_runs import arguments, call, write_settings


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run directory of a few steps."""
    root = tmp_path_factory.mktemp("trained")
    settings = write_settings(root, write_pack(root))
    assert call(arguments(settings, root / "run", "--max_steps", 4, workers=0)) == 0
    return root / "run"


def person(seed: int = 0) -> np.ndarray:
    image = scene(seed=seed)
    draw_face(image, (160, 120), 110)
    return image


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "face.mp4", 12, lambda number: person(number // 6))
