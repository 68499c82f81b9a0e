"""Every video of a split is known: with frames, without a face, unreadable, or absent; and how its faces were cut."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.drawn import draw_face, scene, write_video

from common.coverage import Slot, differing_crops, read_coverage
from preprocessing.rearrange import main
from preprocessing.run_preprocess import Request, preprocess
from preprocessing.run_rearrange import rearrange

CUT = {"detector": "hog", "predictor": "p81.dat", "size": 256, "scale": 1.3, "mode": "fixed_num_frames"}


def plant(root: Path, tree: dict[str, str | None]) -> None:
    """Make a tree of files: text, or a small picture where the content is None."""
    picture = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for path, text in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(picture if text is None else text.encode())


def line(video: str, state: str, **more) -> str:
    return json.dumps({"video": video, "state": state, "settings": CUT | more, "crops": 1}) + "\n"


def index_of(folder: Path, dataset: str, **options):
    report = rearrange(dataset, str(folder), str(folder / "json"), **options)
    return report, read_coverage(folder / "json" / f"{dataset}.json")


@pytest.fixture
def own(tmp_path) -> Path:
    """A set of one's own: three real videos, of which one has frames; two fakes, both with frames."""
    manifest = line("real/a.mp4", "done") + line("real/b.mp4", "no_face") + line("real/c.mp4", "failed")
    manifest += line("fake/x.mp4", "done") + line("fake/y.mp4", "partial")
    tree = {f"Mine/{kind}/frames/{name}/000.png": None for kind, name in (("real", "a"), ("fake", "x"), ("fake", "y"))}
    plant(tmp_path, tree | {"Mine/manifest.jsonl": manifest})
    return tmp_path


def test_a_video_without_a_face_is_counted_and_never_indexed(own, capsys):
    report, found = index_of(own, "Mine", layout="custom")
    assert found.of("test") == {"Mine_real": Slot(3, 1, 1, 1), "Mine_fake": Slot(2, 2)}
    assert found.labels["Mine_real"]["test"]["no_face"] == ["b"]
    assert found.labels["Mine_real"]["test"]["unreadable"] == ["c"]
    assert set(report.indexes["Mine"]["Mine"]["Mine_real"]["test"]) == {"a"}
    assert "Mine_real, test: 1 of 3 videos; 1 without a face (b), 1 unreadable (c)" in capsys.readouterr().out
    assert found.crops == {"finder": "hog", "predictor": "p81.dat", "scale": 1.3, "size": 256, "version": 1}


def test_videos_that_lie_there_are_to_do(own, capsys):
    for name in ("a", "d"):
        (own / "Mine/real" / f"{name}.mp4").write_bytes(b"")
    _, found = index_of(own, "Mine", layout="custom")
    assert found.of("test")["Mine_real"] == Slot(4, 1, 1, 1)
    assert found.of("test")["Mine_real"].absent == 1
    assert found.labels["Mine_real"]["test"]["to_do"] == ["d"]
    assert found.labels["Mine_real"]["test"]["absent"] == []
    assert "1 to be preprocessed (d)" in capsys.readouterr().out


def test_lost_frames_are_absent_whatever_the_manifest_says(own):
    (own / "Mine/fake/frames/x/000.png").unlink()
    _, found = index_of(own, "Mine", layout="custom")
    assert found.of("test")["Mine_fake"] == Slot(2, 1)
    assert found.labels["Mine_fake"]["test"]["absent"] == ["x"]


def test_faces_cut_in_two_ways_are_told(own, capsys):
    with open(own / "Mine/manifest.jsonl", "a") as file:
        file.write(line("fake/y.mp4", "done", detector="yunet", scale=1.5))
    _, found = index_of(own, "Mine", layout="custom")
    assert found.crops["finder"] == ["hog", "yunet"]
    assert found.crops["size"] == 256
    assert "not all cut alike (finder: hog, yunet; scale: 1.3, 1.5)" in capsys.readouterr().out


def test_without_a_manifest_the_cut_is_unknown(own):
    (own / "Mine/manifest.jsonl").unlink()
    _, found = index_of(own, "Mine", layout="custom")
    assert found.crops is None
    assert found.of("test")["Mine_real"] == Slot(1, 1), "nothing tells of the others"


def test_what_one_cut_does_not_tell_is_no_difference():
    own = {"finder": "hog", "size": 256, "version": None}
    assert differing_crops(own, own | {"version": 2}) == []
    assert differing_crops(own, None) == []
    assert differing_crops(own, {"finder": ["hog", "cnn"], "size": 224}) == [
        "finder hog (hog and cnn)",
        "size 256 (224)",
    ]


def test_celeb_dfs_list_names_what_is_not_here(tmp_path):
    """A folder that is not there at all is told from the list; and so is how many were published."""
    names = "1 Celeb-real/id0_0000.mp4\n1 YouTube-real/00001.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n"
    frames = [f"Celeb-real/frames/id0_000{i}/000.png" for i in range(2)] + ["Celeb-synthesis/frames/id0_id1_0000/0.png"]
    for dataset in ("Celeb-DF-v1", "Celeb-DF-v2"):
        plant(tmp_path / dataset, {"List_of_testing_videos.txt": names, **dict.fromkeys(frames)})
    _, found = index_of(tmp_path, "Celeb-DF-v1")
    assert found.of("test")["CelebDFv1_real"] == Slot(2, 1)
    assert found.labels["CelebDFv1_real"]["test"]["absent"] == ["00001"]
    assert found.of("train") == {"CelebDFv1_real": Slot(1, 1)}
    report, found = index_of(tmp_path, "Celeb-DF-v2")
    assert found.of("test")["CelebDFv2_real"] == Slot(178, 1)
    assert "CelebDFv2_real, test: 1 of 178 videos; 177 absent (00001)" in report.missing


def _forensics(root: Path, dataset: str) -> None:
    tree = {f"{split}.json": "[]" for split in ("train", "val")} | {"test.json": '[["000", "001"], ["002", "003"]]'}
    for level, names in (("c23", ("000", "001")), ("c40", ("000",))):
        tree |= {f"original_sequences/youtube/{level}/frames/{name}/0.png": None for name in names}
        tree |= {f"manipulated_sequences/Deepfakes/{level}/frames/000_001/0.png": None}
    plant(root / dataset, tree)


def test_split_files_name_videos_per_compression_and_companions_have_their_part(tmp_path):
    _forensics(tmp_path, "FaceForensics++")
    report, found = index_of(tmp_path, "FaceForensics++")
    assert {label: (slot.expected, slot.frames) for label, slot in found.of("test", "c23").items()} == {
        "FF-real": (140, 2),
        "FF-DF": (140, 1),
    }
    assert found.labels["FF-real"]["test"]["c40"]["absent"] == ["001", "002", "003"]
    assert set(report.coverage) == set(report.indexes) > {"FF-DF", "FaceForensics++_c40", "FF-DF_c40"}
    assert set(read_coverage(tmp_path / "json/FF-DF.json").of("test", "c23")) == {"FF-real", "FF-DF"}
    small = read_coverage(tmp_path / "json/FaceForensics++_c40.json")
    assert small.of("test", "c23") == {}
    assert small.of("test", "c40")["FF-real"].frames == 1


def test_another_set_of_that_shape_has_no_published_count(tmp_path):
    _forensics(tmp_path, "Drawn")
    _, found = index_of(tmp_path, "Drawn", layout="FaceForensics++")
    assert found.of("test", "c23")["FF-real"] == Slot(4, 2)


def test_dfdcs_annotations_and_dfdcps_sets_name_clips(tmp_path):
    labels = "filename,label\na.mp4,1\nb.mp4,1\nc.mp4,0\n"
    plant(tmp_path / "DFDC", {"test/labels.csv": labels, "test/frames/a/0.png": None, "test/frames/c/0.png": None})
    _, found = index_of(tmp_path, "DFDC")
    assert found.labels["DFDC_Fake"]["test"]["absent"] == ["b"]
    assert found.of("test")["DFDC_Real"] == Slot(2500, 1)
    clips = {f"method_A/1/{pair}/clip.mp4": {"label": "fake", "set": "test"} for pair in ("p", "q")}
    clips |= {"original_videos/1/1_0.mp4": {"label": "real", "set": "train"}}
    tree = {"dataset.json": json.dumps(clips), "original_videos/frames/1_0/0.png": None}
    plant(tmp_path / "DFDCP", tree | {"method_A/frames/1_p_clip_mp4/0.png": None})
    _, found = index_of(tmp_path, "DFDCP")
    assert found.of("test")["DFDCP_FakeA"] == Slot(2, 1)
    assert found.labels["DFDCP_FakeA"]["test"]["absent"] == ["1_q_clip_mp4"]
    assert found.of("train") == {"DFDCP_Real": Slot(1, 1)}


def test_check_counts_and_writes_nothing(own, capsys):
    words = ["--dataset_name", "Mine", "--layout", "custom", "--dataset_root_path", str(own), "--check"]
    assert main([*words, "--output_file_path", str(own / "json")]) == 1
    said = capsys.readouterr().out
    assert "Mine_fake, test: 2 of 2 videos" in said
    assert "Mine_real, test: 1 of 3 videos" in said
    assert "some expected videos are missing" in said
    assert not (own / "json").exists()
    (own / "Mine/manifest.jsonl").unlink()
    assert main(words) == 0
    assert "every expected video has frames" in capsys.readouterr().out


def test_a_download_is_checked_before_anything_is_preprocessed(tmp_path, capsys):
    base = tmp_path / "FaceForensics++"
    plant(base, {"train.json": "[]", "val.json": "[]", "test.json": '[["000", "001"]]'})
    video = base / "original_sequences/youtube/c23/videos/000.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"")
    assert main(["--dataset_name", "FaceForensics++", "--dataset_root_path", str(tmp_path), "--check"]) == 1
    assert (
        "FF-real, test, c23: 0 of 140 videos; 1 to be preprocessed (000), 139 absent (001)" in capsys.readouterr().out
    )


def test_a_reproduced_index_has_no_coverage_and_keeps_none(own):
    rearrange("Mine", str(own), str(own / "json"), layout="custom")
    assert (own / "json/Mine.coverage.json").exists()
    rearrange("Mine", str(own), str(own / "json"), layout="custom", as_deepfakebench=True)
    assert not (own / "json/Mine.coverage.json").exists()


def test_from_videos_to_coverage(tmp_path):
    """A face, a video without any, and a file that is none."""

    def face(number: int):
        image = scene(240, 200, 3)
        draw_face(image, (110 + number, 100), 80)
        return image

    source = tmp_path / "in/Drawn"
    write_video(source / "real/seen.mp4", 3, face)
    write_video(source / "real/empty.mp4", 3, lambda number: scene(240, 200, number))
    write_video(source / "fake/swap.mp4", 3, face)
    (source / "fake/torn.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    preprocess(Request("Drawn", str(tmp_path / "in"), "custom", num_frames=1, workers=0, output=str(out)))
    _, found = index_of(out, "Drawn", layout="custom")
    assert found.of("test") == {"Drawn_real": Slot(2, 1, 1, 0), "Drawn_fake": Slot(2, 1, 0, 1)}
    assert (found.crops["finder"], found.crops["scale"], found.crops["version"]) == ("hog", 1.3, 1)
