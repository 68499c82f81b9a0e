"""Faces with captions: the same every time, said in numbers that a flip keeps true, of people whom no demo set shows."""

import numpy as np

from preprocessing.demo.build import Size, jobs, person
from preprocessing.demo.captions import MIRRORED, NAMES, PERSON, films, render_people
from preprocessing.demo.identity import draw_identity


def test_the_same_people_are_filmed_the_same_and_each_alone():
    faces, captions = next(iter(render_people(0, [3], 2, 2, 64)))
    again = list(films(0, 3, 2, 2, 64))
    assert faces.shape == (4, 64, 64, 3)
    assert faces.dtype == np.uint8
    assert captions.shape == (4, len(NAMES)) == (4, 72)
    assert all(np.array_equal(a, b) for a, (b, _) in zip(faces, again, strict=True))
    shape = captions[:, NAMES.index("width")]
    assert len(set(shape)) == 1, "one person"
    assert len(set(captions[:, NAMES.index("softness")])) == 2, "two films"
    assert len(set(captions[:, NAMES.index("yaw")])) == 4, "four frames"


def test_captions_say_what_is_drawn():
    """Over people, a picture's brightness follows the skin that its caption names; its left–right balance the lamp's side."""
    parts = [next(iter(films(0, n, 1, 1, 32))) for n in range(12)]
    faces = np.stack([face for face, _ in parts]).astype(float)
    captions = np.stack([caption for _, caption in parts])
    cheeks = faces[:, 14:24, 11:21].mean(axis=(1, 2, 3))
    assert np.corrcoef(cheeks, captions[:, NAMES.index("skin_green")])[0, 1] > 0.6
    balance = faces[:, 14:24, 17:22].mean(axis=(1, 2, 3)) - faces[:, 14:24, 10:15].mean(axis=(1, 2, 3))
    assert np.corrcoef(balance, captions[:, NAMES.index("lamp_x")])[0, 1] > 0.5
    assert set(MIRRORED) <= set(NAMES)


def test_nobody_is_in_a_demo_set():
    known = {person(seed, job.target) for seed in (0, 7) for job in jobs(Size(), seed)}
    ours = {draw_identity(np.random.default_rng([seed, PERSON, n])) for seed in (0, 7) for n in range(200)}
    assert not known & ours
