"""Tiles against dlib's own search of the whole doubled frame; following one person."""

import dlib
import numpy as np
import pytest
from helpers.drawn import draw_face, scene

from common.errors import ConfigError, DataError
from preprocessing.faces.box import Box, overlap
from preprocessing.faces.detection import build_face_detector
from preprocessing.faces.dlib_hog import DlibHog
from preprocessing.faces.landmarks import LandmarkPredictor, find_predictor
from preprocessing.faces.pipeline import FacePipeline
from preprocessing.faces.tracking import FaceTracker, everybody, track_faces, track_people


@pytest.fixture(scope="module")
def detector() -> DlibHog:
    return DlibHog()


@pytest.mark.parametrize(
    ("width", "height", "side", "seed"), [(320, 240, 70, 1), (480, 270, 110, 2), (384, 400, 170, 3)]
)
def test_boxes_lie_on_the_references_grid(detector, width, height, side, seed):
    image = scene(width, height, seed)
    draw_face(image, (width * 0.55, height * 0.5), side)
    whole, scores, _ = dlib.get_frontal_face_detector().run(image, 1, 0.0)
    best = whole[int(np.argmax(scores))]
    reference = Box(best.left(), best.top(), best.right(), best.bottom())
    for found in (detector.detect(image)[0], detector.detect(image, near=reference)[0]):
        np.testing.assert_allclose(found[:4], reference[:4], atol=1)


@pytest.mark.parametrize(("seed", "ratio"), [(2, 1 / 1.2), (17, 1 / 1.2), (17, 1.2)])
def test_the_best_level_wins_though_the_face_was_followed_on_another(detector, seed, ratio):
    """A face that grew or shrank: smaller copies of a tile, off the grid, must not hide the answer of the level beside."""
    rng = np.random.default_rng(seed)
    side, image = float(rng.uniform(60, 120)), scene(320, 240, seed)
    draw_face(image, (320 * rng.uniform(0.4, 0.6), 240 * rng.uniform(0.45, 0.55)), side)
    whole, scores, _ = dlib.get_frontal_face_detector().run(image, 1, 0.0)
    best = whole[int(np.argmax(scores))]
    reference = Box(best.left(), best.top(), best.right(), best.bottom())
    (x, y), half = reference.centre, reference.side * ratio / 2
    found = detector.detect(image, near=Box(x - half, y - half, x + half, y + half))[0]
    np.testing.assert_allclose(found[:4], reference[:4], atol=1)


def test_an_empty_scene_has_no_face(detector, pipeline):
    assert detector.detect(scene(200, 160, 5)) == []
    assert pipeline.crop(scene(200, 160, 5)) is None


def test_largest_face_comes_first(detector):
    image = scene(640, 300, 4)
    draw_face(image, (150, 150), 80)
    draw_face(image, (450, 150), 150)
    assert detector.detect(image)[0].centre[0] == pytest.approx(450, abs=30)


def test_smallest_spares_the_finer_searches(detector):
    image = scene(480, 360, 6)
    draw_face(image, (240, 180), 50)
    assert detector.detect(image)
    assert detector.detect(image, smallest=150) == []


def test_crop_centres_the_face_and_carries_its_landmarks(pipeline):
    image = scene(400, 300, 7)
    draw_face(image, (160, 140), 120)
    face = pipeline.crop(image)
    assert face.crop.shape == (256, 256, 3)
    assert face.landmarks.shape == (81, 2)
    assert face.landmarks.dtype == np.float32
    eyes = face.landmarks[36:48].mean(0)
    assert abs(eyes[0] - 128) < 12
    assert 90 < eyes[1] < 140


def paint(faces: list[tuple[float, float, float, tuple]]) -> np.ndarray:
    image = scene(560, 300, 8)
    for x, y, side, skin in faces:
        draw_face(image, (x, y), side, skin)
    return image


PALE, DARK = (225, 185, 165), (140, 95, 70)


def test_a_larger_second_person_does_not_take_over(detector):
    alone = [paint([(130 + 4 * t, 150, 80, PALE)]) for t in range(4)]
    joined = [paint([(146 + 4 * t, 150, 80, PALE), (440, 150, 150, DARK)]) for t in range(4)]
    boxes = FaceTracker(detector).follow(alone + joined)
    assert all(box is not None for box in boxes)
    assert all(box.centre[0] < 230 for box in boxes)
    assert detector.detect(joined[-1])[0].centre[0] > 350, "the second person is the larger one"


def test_someone_else_of_like_size_does_not_take_a_lost_persons_place(detector):
    frames = [paint([(130, 150, 90, PALE)])] * 2 + [paint([(440, 150, 90, DARK)])] * 3
    assert [box is not None for box in FaceTracker(detector).follow(frames)] == [True, True, False, False, False]


def test_a_person_who_jumps_is_followed(detector):
    frames = [paint([(130, 150, 90, PALE)])] * 2 + [paint([(440, 150, 90, PALE)])] * 3
    assert [box is not None for box in FaceTracker(detector).follow(frames)] == [True] * 5


def test_a_person_who_leaves_is_not_replaced_and_is_found_again(detector):
    frames = [paint([(130, 150, 80, PALE)])] * 2
    frames += [paint([(440, 150, 230, DARK)])] * 3
    frames += [paint([(130, 150, 80, PALE), (440, 150, 200, DARK)])] * 2
    boxes = FaceTracker(detector).follow(frames)
    assert [box is not None for box in boxes] == [True, True, False, False, False, True, True]
    assert boxes[-1].centre[0] < 230


def test_portions_do_not_change_the_result(pipeline):
    frames = [(10 * t, paint([(130 + 5 * t, 150, 80, PALE)])) for t in range(6)]
    whole = list(track_faces(frames, pipeline))
    parts = list(track_faces(frames, pipeline, portion=2))
    assert [face.frame for face in whole] == [0, 10, 20, 30, 40, 50] == [face.frame for face in parts]
    for one, other in zip(whole, parts):
        assert overlap(one.box, other.box) > 0.6


def test_frames_before_the_first_find_are_looked_at_again(detector):
    frames = [scene(560, 300, 8)] * 2 + [paint([(130, 150, 80, PALE)])] * 3
    assert [box is not None for box in FaceTracker(detector).follow(frames)] == [False, False, True, True, True]


def test_unusual_requests_are_answered_plainly(tmp_path):
    with pytest.raises(ConfigError, match="hog, cnn, mtcnn"):
        build_face_detector("dnn")
    with pytest.raises(DataError, match="dlib_tools"):
        find_predictor(tmp_path / "none.dat")
    (tmp_path / "bad.dat").write_bytes(b"not a model")
    with pytest.raises(DataError, match=r"bad\.dat"):
        LandmarkPredictor(tmp_path / "bad.dat")
    if not dlib.DLIB_USE_CUDA:
        with pytest.raises(ConfigError, match="CUDA"):
            build_face_detector("cnn")


def test_another_detector_is_one_class(pipeline):
    class Fixed:
        def detect(self, image, near=None, smallest=0.0):
            return [Box(40, 30, 140, 130)]

    made = FacePipeline.__new__(FacePipeline)
    made.detector, made.landmarks, made.size, made.scale = Fixed(), pipeline.landmarks, 64, 1.3
    assert made.crop(scene(200, 160)).crop.shape == (64, 64, 3)


def test_everybody_is_found_and_followed_each_on_their_own(detector, pipeline):
    """The larger comes first; who comes in later is followed from there on; nobody is counted twice."""
    frames = [(t, paint([(130 + 4 * t, 150, 150, PALE)])) for t in range(4)]
    frames += [(t, paint([(130 + 4 * t, 150, 150, PALE), (440, 150, 76, DARK)])) for t in range(4, 12)]
    picture = scene(760, 520, 9)
    draw_face(picture, (240, 260), 260)
    draw_face(picture, (620, 260), 85)
    assert len(detector.detect(picture)) == 1, "the search ends with the largest"
    assert len(everybody(detector, picture)) == 2
    for portion in (32, 5):
        first, second = track_people(frames, pipeline, portion)
        assert [face.frame for face in first] == list(range(12))
        assert all(face.box.centre[0] < 230 for face in first)
        assert [face.frame for face in second] == list(range(4, 12))
        assert all(face.box.centre[0] > 400 for face in second)
    assert track_people([(0, scene(560, 300, 8))], pipeline) == []


def test_somebody_seen_for_a_moment_is_left_out(pipeline):
    frames = [(t, paint([(130, 150, 130, PALE)] + [(440, 150, 90, DARK)] * (t == 0))) for t in range(6)]
    assert len(track_people(frames, pipeline)) == 1
