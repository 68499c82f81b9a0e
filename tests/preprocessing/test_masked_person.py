"""Where a mask is given, the person whom it marks is followed, however small; where it marks nobody, no fake is indexed."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.drawn import draw_face, scene, write_video

from preprocessing.manifest import read_manifest
from preprocessing.run_preprocess import Request, preprocess
from preprocessing.run_rearrange import rearrange

SIZE = (320, 480)
LARGE, SMALL = ((130, 120), 130), ((380, 130), 80)  # centre (x, y) and side of the two people


def two_people(_: int) -> np.ndarray:
    image = scene(SIZE[1], SIZE[0])
    draw_face(image, *LARGE)
    draw_face(image, *SMALL, skin=(160, 110, 80))
    return image


def marked(centre: tuple[int, int], side: int):
    def paint(_: int) -> np.ndarray:
        mask = np.zeros((*SIZE, 3), np.uint8)
        return cv2.ellipse(mask, centre, (side // 3, side // 2), 0, 0, 360, (255, 255, 255), -1)

    return paint


def dataset(root: Path, paint_mask) -> Path:
    """Write FaceForensics++'s tree of one real video and its fake, with the mask of the fake."""
    top = root / "FaceForensics++"
    write_video(top / "original_sequences/youtube/c23/videos/071.mp4", 4, two_people)
    write_video(top / "manipulated_sequences/Deepfakes/c23/videos/071_054.mp4", 4, two_people)
    write_video(top / "manipulated_sequences/Deepfakes/masks/videos/071_054.mp4", 4, paint_mask)
    for split in ("train", "val", "test"):
        (top / "splits").mkdir(exist_ok=True)
        (top / "splits" / f"{split}.json").write_text(json.dumps([["071", "054"]] if split == "train" else []))
    return top


def cut(root: Path) -> tuple[dict, Path]:
    request = Request("FaceForensics++", str(root), comp="c23", num_frames=3, output=str(root / "rgb"), workers=0)
    assert preprocess(request) == 0
    out = root / "rgb/FaceForensics++"
    return next(line for line in read_manifest(out / "manifest.jsonl") if "071_054" in line["video"]), out


@pytest.mark.parametrize("person", [LARGE, SMALL])
def test_the_masked_person_is_cut(tmp_path, person):
    dataset(tmp_path, marked(*person))
    line, out = cut(tmp_path)
    assert (line["state"], line["faces"], line["masks"]) == ("done", 3, 3)
    folder = out / "manipulated_sequences/Deepfakes/c23"
    for path in sorted((folder / "masks/071_054").glob("*.png")):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0
        assert 0.1 < mask.mean() < 0.9, "the mask lies on the face that was cut"
    skin = cv2.imread(str(next((folder / "frames/071_054").glob("*.png"))))[110:146, 100:156].mean((0, 1))
    other = (130, 160, 205) if person is LARGE else (80, 110, 160)  # BGR of the person's skin
    assert np.abs(skin - other).max() < 40


def test_a_mask_on_nobody_is_said_and_no_fake_comes_of_it(tmp_path, capsys):
    dataset(tmp_path, marked((250, 290), 40))
    line, out = cut(tmp_path)
    assert line["state"] == "unmasked"
    assert "marks none of the faces" in line["error"]
    assert "1 without a face under the mask" in capsys.readouterr().out
    assert not (out / "manipulated_sequences/Deepfakes/c23/frames/071_054").exists()
    rearrange("FaceForensics++", str(tmp_path / "rgb"), str(tmp_path / "json"))
    index = json.loads((tmp_path / "json/FaceForensics++.json").read_text())["FaceForensics++"]
    assert "071" in index["FF-real"]["train"]["c23"]
    assert not index.get("FF-DF", {}).get("train", {}).get("c23")


def test_what_went_by_before_the_mask_showed_whom_to_follow_is_said(tmp_path, monkeypatch):
    from preprocessing.faces import tracking

    def late(number: int) -> np.ndarray:
        return marked(*SMALL)(number) if number >= 2 else np.zeros((*SIZE, 3), np.uint8)

    monkeypatch.setattr(tracking.track_faces, "__defaults__", (1, None, None))  # portions of one frame
    dataset(tmp_path, late)
    line, _ = cut(tmp_path)
    assert line["state"] == "partial"
    assert line["faces"] < 3
    assert "frames went by before it lay on a face" in line["error"]


def test_a_cut_mask_keeps_its_faint_edge(tmp_path):
    """The floor of 16 holds after the turn into the crop too, not only where masks are read."""
    from types import SimpleNamespace

    from preprocessing.extraction import Job, Settings, _Masks

    masks = _Masks(Job("v", Path("v"), tmp_path, "v", Path("m.mp4"), Settings(size=64)), [0])
    masks._kept[0] = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((8, 8))).astype(np.uint8)
    shifted = np.array([[1.0, 0, 0.85], [0, 1, 0]])  # a column at the edge keeps 15 % of 255, which is 38
    cut_mask = masks.cut(SimpleNamespace(frame=0, matrix=shifted, frame_size=(32, 32)))
    assert cut_mask is not None
    assert set(np.unique(cut_mask)) == {0, 255}
    assert cut_mask[4, 8] == 255
