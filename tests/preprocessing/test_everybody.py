"""`people: all`: each person of a video becomes a video of its own, and the people of one video remain one video's."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.drawn import draw_face, scene, write_video

from common.coverage import Slot, read_coverage
from common.datasets import identities, person_name, same_video_key, split_person
from common.errors import ConfigError, DataError
from preprocessing.manifest import read_manifest
from preprocessing.run_preprocess import Request, preprocess
from preprocessing.run_rearrange import rearrange

SIZE = (320, 480)
LARGE, SMALL = ((130, 120), 130), ((380, 130), 80)  # centre (x, y) and side of the two people
REAL, FAKE = "original_sequences/youtube/c23", "manipulated_sequences/Deepfakes/c23"


def two_people(_: int) -> np.ndarray:
    image = scene(SIZE[1], SIZE[0])
    draw_face(image, *LARGE)
    draw_face(image, *SMALL, skin=(160, 110, 80))
    return image


def marked(*people: tuple[tuple[int, int], int]):
    def paint(_: int) -> np.ndarray:
        mask = np.zeros((*SIZE, 3), np.uint8)
        for centre, side in people:
            cv2.ellipse(mask, centre, (side // 3, side // 2), 0, 0, 360, (255, 255, 255), -1)
        return mask

    return paint


def forensics(root: Path, *under_mask: tuple[tuple[int, int], int]) -> None:
    """Write FaceForensics++'s tree of one real video and its fake, of two people, and the fake's mask."""
    top = root / "FaceForensics++"
    write_video(top / f"{REAL}/videos/071.mp4", 4, two_people)
    write_video(top / f"{FAKE}/videos/071_054.mp4", 4, two_people)
    write_video(top / "manipulated_sequences/Deepfakes/masks/videos/071_054.mp4", 4, marked(*under_mask))
    for split in ("train", "val", "test"):
        (top / f"{split}.json").write_text(json.dumps([["071", "054"]] if split == "test" else []))


def cut(root: Path, people: str = "all", frames: int = 2) -> Path:
    request = Request(
        "FaceForensics++", str(root), comp="c23", num_frames=frames, output=str(root / "rgb"), workers=0, people=people
    )
    assert preprocess(request) == 0
    return root / "rgb/FaceForensics++"


def folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def skin(folder: Path) -> np.ndarray:
    """Return the RGB of the skin in a person's first crop."""
    return cv2.imread(str(min(folder.glob("*.png"))))[110:146, 100:156].mean((0, 1))[::-1]


def test_each_person_is_a_video_and_whom_no_mask_touches_is_no_fake(tmp_path, capsys):
    forensics(tmp_path, SMALL)
    out = cut(tmp_path)
    said = capsys.readouterr().out
    assert "1 people beside each video's first; 1 in fakes are under no mask and were left out" in said
    assert folders(out / f"{REAL}/frames") == folders(out / f"{REAL}/landmarks") == ["071", "071_person2"]
    assert folders(out / f"{FAKE}/frames") == folders(out / f"{FAKE}/masks") == ["071_054"]
    assert np.abs(skin(out / f"{REAL}/frames/071") - (205, 160, 130)).max() < 40, "the largest has the video's name"
    assert np.abs(skin(out / f"{REAL}/frames/071_person2") - (160, 110, 80)).max() < 40
    assert np.abs(skin(out / f"{FAKE}/frames/071_054") - (160, 110, 80)).max() < 40, "the masked one"
    real, fake = sorted(read_manifest(out / "manifest.jsonl"), key=lambda line: line["video"], reverse=True)
    assert (real["faces"], real["people"], fake["untouched"]) == (4, [2, 2], 1)
    assert "people" not in fake

    rearrange("FaceForensics++", str(tmp_path / "rgb"), str(tmp_path / "json"))
    said = capsys.readouterr().out
    assert "1 people in fakes are under no mask" in said
    assert "2 videos and 1 more people of them" in said
    index = json.loads((tmp_path / "json/FaceForensics++.json").read_text())["FaceForensics++"]
    entries = index["FF-real"]["test"]["c23"]
    assert {name: entry.get("target_id") for name, entry in entries.items()} == {"071": "071", "071_person2": None}
    assert set(index["FF-DF"]["test"]["c23"]) == {"071_054"}
    slots = read_coverage(tmp_path / "json/FaceForensics++.json").of("test", "c23")
    assert slots == {"FF-real": Slot(140, 1, people=1), "FF-DF": Slot(140, 1)}

    cut(tmp_path)
    assert "2 of them finished before" in capsys.readouterr().out
    next((out / f"{REAL}/landmarks/071_person2").iterdir()).unlink()
    cut(tmp_path)
    assert "1 of them finished before" in capsys.readouterr().out, "a lost file of the second person is missed"
    cut(tmp_path, "largest")
    assert folders(out / f"{REAL}/frames") == folders(out / f"{REAL}/landmarks") == ["071"]
    assert "people" not in read_manifest(out / "manifest.jsonl")[-1]["settings"]


def test_both_are_fakes_where_the_mask_lies_on_both(tmp_path):
    forensics(tmp_path, LARGE, SMALL)
    out = cut(tmp_path)
    assert folders(out / f"{FAKE}/frames") == folders(out / f"{FAKE}/masks") == ["071_054", "071_054_person2"]
    for path in (out / f"{FAKE}/masks").rglob("*.png"):
        assert 0.1 < (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0).mean() < 0.9
    rearrange("FaceForensics++", str(tmp_path / "rgb"), str(tmp_path / "json"))
    index = json.loads((tmp_path / "json/FaceForensics++.json").read_text())["FaceForensics++"]
    second = index["FF-DF"]["test"]["c23"]["071_054_person2"]
    assert len(second["masks"]) == len(second["frames"]) == 2
    assert "071_054_person2" in second["masks"][0]
    assert "target_id" not in second


def test_a_video_named_like_a_person_stays_a_video(tmp_path):
    """Nothing of its is taken for another video's, nor removed with that one's people; wanting all people is refused."""
    for name in ("scene", "scene_person2"):
        write_video(tmp_path / f"Mine/real/{name}.mp4", 2, lambda _: two_people(0))
    request = Request("Mine", str(tmp_path), "custom", num_frames=1, output=str(tmp_path / "rgb"), workers=0)
    assert preprocess(request) == 0
    frames = tmp_path / "rgb/Mine/real/frames"
    assert folders(frames) == ["scene", "scene_person2"]
    rearrange("Mine", str(tmp_path / "rgb"), str(tmp_path / "json"), layout="custom")
    assert read_coverage(tmp_path / "json/Mine.json").of("test") == {"Mine_real": Slot(2, 2)}
    (tmp_path / "rgb/Mine/real/landmarks/scene/000.npy").unlink()
    assert preprocess(request) == 0
    assert folders(frames) == ["scene", "scene_person2"]
    with pytest.raises(DataError, match="scene_person2 is the name of a video"):
        preprocess(Request(**{**vars(request), "people": "all"}))
    with pytest.raises(ConfigError, match="--people both: choose one of largest, all"):
        preprocess(Request(**{**vars(request), "people": "both"}))


def test_names_of_people():
    assert [person_name("a", n) for n in (1, 2, 12)] == ["a", "a_person2", "a_person12"]
    assert [split_person(name) for name in ("a", "a_person2", "a_person12", "a_person1", "_person2")] == [
        ("a", 1), ("a", 2), ("a", 12), ("a_person1", 1), ("_person2", 1)
    ]  # fmt: skip
    keys = {same_video_key("FaceForensics++", "FF-DF", True, name) for name in ("071_054", "071_054_person2")}
    assert keys == {"FaceForensics++/FF-DF/071_054"}
    assert identities("DeeperForensics-1.0", "clip", "x/source_videos/M101/frames/clip") != (None, None)
    assert identities("DeeperForensics-1.0", "clip_person2", "x/source_videos/M101/frames/clip_person2") == (None, None)
