"""Whole runs on small drawn datasets: products, faults, interruption, shards, engines."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.crash import crash_on_bad
from helpers.drawn import draw_face, scene, write_video
from helpers.said import only_error
from helpers.small_disk import on_small_disk

from common.errors import ConfigError, DataError, ProjectError
from preprocessing.extraction import Job, Outcome, Settings
from preprocessing.layouts._base import Group, Layout, unique_names
from preprocessing.manifest import Manifest, read_manifest
from preprocessing.pool import run_here, run_on_ray
from preprocessing.preprocess import main
from preprocessing.run_preprocess import Request, parse_shard, preprocess
from preprocessing.run_rearrange import rearrange

ROOT = Path(__file__).parents[2]


def face_at(number: int) -> np.ndarray:
    image = scene(240, 200, 3)
    draw_face(image, (110 + number, 100), 80)
    return image


def mask_at(number: int) -> np.ndarray:
    mask = np.zeros((200, 240, 3), np.uint8)
    mask[80:120, 90 + number : 130 + number] = 255
    return mask


def video(path: Path, count: int = 8) -> Path:
    return write_video(path, count, face_at)


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """A dataset of FaceForensics++'s shape with one fake and its mask."""
    root = tmp_path_factory.mktemp("videos") / "Drawn"
    for name in ("000", "001"):
        video(root / f"original_sequences/youtube/c23/videos/{name}.mp4")
    video(root / "manipulated_sequences/Deepfakes/c23/videos/000_001.mp4")
    write_video(root / "manipulated_sequences/Deepfakes/masks/videos/000_001.mp4", 8, mask_at)
    for split, pairs in (("train", [["000", "001"]]), ("val", []), ("test", [])):
        (root / f"{split}.json").write_text(json.dumps(pairs))
    return root


def run(root: Path, out: Path, **options) -> int:
    options = {"layout": "FaceForensics++", "num_frames": 4, "workers": 0, **options}
    return preprocess(Request("Drawn", str(root.parent), output=str(out), **options))


def entries(folder: Path) -> dict[str, dict]:
    return {entry["video"]: entry for path in folder.glob("manifest*.jsonl") for entry in read_manifest(path)}


def test_products_and_index(originals, tmp_path):
    assert run(originals, tmp_path) == 0
    base = tmp_path / "Drawn/manipulated_sequences/Deepfakes/c23"
    numbers = ["000", "002", "004", "007"]
    assert sorted(path.stem for path in (base / "frames/000_001").iterdir()) == numbers
    assert sorted(path.name for path in (base / "landmarks/000_001").iterdir()) == [f"{n}.npy" for n in numbers]
    crop = cv2.imread(str(base / "frames/000_001/004.png"))
    points = np.load(base / "landmarks/000_001/004.npy")
    mask = cv2.imread(str(base / "masks/000_001/004.png"), cv2.IMREAD_UNCHANGED)
    assert crop.shape == (256, 256, 3)
    assert points.shape == (81, 2)
    assert mask.shape == (256, 256)
    assert set(np.unique(mask)) == {0, 255}
    assert 0.05 < (mask > 0).mean() < 0.5
    assert not list(tmp_path.rglob("*.part"))
    entry = entries(tmp_path / "Drawn")["manipulated_sequences/Deepfakes/c23/videos/000_001.mp4"]
    assert (entry["state"], entry["frames"], entry["faces"]) == ("done", 4, 4)
    assert entry["forehead"] in ("extrapolated", "predicted")
    index = rearrange("Drawn", str(tmp_path), str(tmp_path / "json"), layout="FaceForensics++").indexes["Drawn"][
        "Drawn"
    ]
    fake = index["FF-DF"]["train"]["c23"]["000_001"]
    assert len(fake["frames"]) == len(fake["masks"]) == 4
    assert (tmp_path / fake["frames"][0]).is_file()
    assert (tmp_path / fake["masks"][0]).is_file()


def test_mask_is_cut_by_the_matrix_of_its_frame(originals, tmp_path, pipeline):
    run(originals, tmp_path)
    from preprocessing.faces.alignment import warp_points

    image = next(
        frame.to_ndarray(format="rgb24")
        for number, frame in enumerate(
            av.open(str(originals / "manipulated_sequences/Deepfakes/c23/videos/000_001.mp4")).decode(video=0)
        )
        if number == 4
    )
    face = pipeline.crop(image)
    corners = warp_points([[94, 80], [134, 80], [134, 120], [94, 120]], face.matrix)
    expected = cv2.fillConvexPoly(np.zeros((256, 256), np.uint8), np.rint(corners).astype(np.int32), 1) > 0
    path = tmp_path / "Drawn/manipulated_sequences/Deepfakes/c23/masks/000_001/004.png"
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0
    assert (mask & expected).sum() / (mask | expected).sum() > 0.85


def test_finished_videos_are_left_alone_and_new_settings_are_not(originals, tmp_path, capsys):
    run(originals, tmp_path)
    stamp = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    run(originals, tmp_path)
    assert "3 videos, 3 of them finished before" in capsys.readouterr().out
    assert stamp == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    run(originals, tmp_path, num_frames=2)
    assert len(list((tmp_path / "Drawn/original_sequences/youtube/c23/frames/000").iterdir())) == 2


def test_killed_and_started_again(tmp_path):
    for number in range(6):
        video(tmp_path / f"in/Drawn/real/v{number}.mp4", 24)
    command = [sys.executable, "-m", "preprocessing.preprocess", "--dataset_name", "Drawn", "--layout", "custom"]
    command += ["--dataset_root_path", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--num_frames", "24"]
    process = subprocess.Popen(
        [*command, "--workers", "1"], stdout=subprocess.DEVNULL, start_new_session=True, cwd=ROOT
    )
    manifest = tmp_path / "out/Drawn/manifest.jsonl"
    deadline = time.monotonic() + 150
    while not (manifest.exists() and manifest.read_bytes().count(b"\n") >= 2) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {e["video"]: e for e in read_manifest(manifest)}
    assert 2 <= len(before) < 6
    with open(manifest, "ab") as file:
        file.write(b'{"video": "real/v5.mp4", "sta')  # a line torn by the kill
    stamps = {name: (tmp_path / "out/Drawn/real/frames" / Path(name).stem).stat().st_mtime_ns for name in before}
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert f"{len(before)} of them finished before" in done.stdout
    assert set(entries(tmp_path / "out/Drawn")) == {f"real/v{number}.mp4" for number in range(6)}
    frames = tmp_path / "out/Drawn/real/frames"
    assert {path.name: len(list(path.iterdir())) for path in frames.iterdir()} == {f"v{n}": 24 for n in range(6)}
    for name, stamp in stamps.items():
        assert (frames / Path(name).stem).stat().st_mtime_ns == stamp, "a finished video was done again"


def spoil(folder: Path) -> None:
    """Write the faults that datasets come with."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.mp4").touch()
    (folder / "page.mp4").write_text("<html>not found</html>")
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for _ in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(folder / "nothing.mp4"), "w", options={"movflags": "+empty_moov+frag_custom"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        container.start_encoding()
    write_video(folder / "nobody.mp4", 6, lambda number: scene(160, 120, number))


def test_one_bad_video_never_stops_the_rest(tmp_path, capsys):
    spoil(tmp_path / "Drawn/fake")
    video(tmp_path / "Drawn/real/good.mp4")
    arguments = ["--dataset_name", "Drawn", "--layout", "custom", "--dataset_root_path", str(tmp_path)]
    code = main([*arguments, "--num_frames", "3", "--workers", "2"])
    assert code == 1
    states = {Path(name).stem: entry["state"] for name, entry in entries(tmp_path / "Drawn").items()}
    assert states == {
        "good": "done",
        "nobody": "no_face",
        **dict.fromkeys(("empty", "page", "sound", "nothing"), "failed"),
    }
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert "4 failed" in last
    assert str(tmp_path / "Drawn/manifest.jsonl") in last
    errors = {Path(name).stem: entry["error"] for name, entry in entries(tmp_path / "Drawn").items()}
    assert "0 bytes" in errors["empty"]
    assert "video track" in errors["sound"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_stops_the_run_with_a_sentence_and_the_next_one_goes_on(originals, tmp_path, workers):
    words = ["--dataset_name", "Drawn", "--layout", "FaceForensics++", "--dataset_root_path", originals.parent]
    words += ["--comp", "c23", "--num_frames", 4, "--output", tmp_path, "--workers", workers]
    done = on_small_disk(10_000, "preprocessing/preprocess.py", *words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: cannot write" in done.stderr.splitlines()[-1]
    assert "free some space" in done.stderr
    assert not list(tmp_path.rglob("*.part"))
    assert not entries(tmp_path / "Drawn")  # nothing is blamed on a video
    assert run(originals, tmp_path) == 0
    assert {entry["state"] for entry in entries(tmp_path / "Drawn").values()} == {"done"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's disk that is always full")
def test_a_manifest_that_cannot_be_written_is_a_sentence(tmp_path):
    manifest = Manifest(tmp_path, Settings())
    manifest.path.symlink_to("/dev/full")
    with pytest.raises(ProjectError, match=r"manifest.jsonl: No space left on device; free some space"):
        manifest.add(Outcome("a.mp4", "done"))


def test_shards_are_a_partition(originals, tmp_path):
    for shard in ("1/2", "2/2"):
        run(originals, tmp_path, shard=shard)
    first, second = ({e["video"] for e in read_manifest(tmp_path / f"Drawn/manifest.{i}-of-2.jsonl")} for i in (1, 2))
    assert not first & second
    assert len(first | second) == 3
    assert run(originals, tmp_path) == 0
    assert not (tmp_path / "Drawn/manifest.jsonl").exists(), "what the shards finished was done again"


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_impossible_shards(text):
    with pytest.raises(ConfigError, match="--shard"):
        parse_shard(text)


def test_a_crashing_decoder_costs_its_own_video_only(tmp_path):
    good = video(tmp_path / "good.mp4")
    names = ("a", "bad", "b", "c", "d")
    jobs = [Job(name, good, tmp_path / "out", name, None, Settings(num_frames=2)) for name in names]
    states = {outcome.key: outcome.state for outcome in run_here(jobs, 2, crash_on_bad)}
    assert states == {"a": "done", "bad": "failed", "b": "done", "c": "done", "d": "done"}


def test_pictures_are_videos_of_one_frame(tmp_path):
    (tmp_path / "Mine/real").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "Mine/real/portrait.jpg"), face_at(0)[..., ::-1])
    (tmp_path / "Mine/real/broken.png").write_bytes(b"\x89PNG nothing")
    assert preprocess(Request("Mine", str(tmp_path), layout="custom", workers=0)) == 1
    assert [path.name for path in (tmp_path / "Mine/real/frames/portrait").iterdir()] == ["000.png"]
    states = {Path(name).name: entry["state"] for name, entry in entries(tmp_path / "Mine").items()}
    assert states == {"portrait.jpg": "done", "broken.png": "failed"}


def test_a_mask_shorter_than_its_video_is_reported(tmp_path):
    video(tmp_path / "Drawn/fake/a.mp4")
    write_video(tmp_path / "Drawn/masks/a.mp4", 3, mask_at)
    preprocess(Request("Drawn", str(tmp_path), layout="custom", num_frames=4, workers=0))
    entry = entries(tmp_path / "Drawn")["fake/a.mp4"]
    assert entry["state"] == "partial"
    assert "mask" in entry["error"]
    assert len(list((tmp_path / "Drawn/fake/frames/a").iterdir())) == 4


def test_ray_gives_what_processes_give(originals, tmp_path):
    run(originals, tmp_path / "here")
    run(originals, tmp_path / "ray", engine="ray", workers=2)
    here, there = tmp_path / "here/Drawn", tmp_path / "ray/Drawn"
    products = sorted(path.relative_to(here) for path in here.rglob("*") if path.suffix in (".png", ".npy"))
    assert products
    assert all((here / path).read_bytes() == (there / path).read_bytes() for path in products)
    assert {name: e["faces"] for name, e in entries(here).items()} == {n: e["faces"] for n, e in entries(there).items()}


def test_ray_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="pip install ray"):
        next(run_on_ray([]))


def test_manifest_remembers_settings(tmp_path):
    from preprocessing.extraction import Outcome

    manifest = Manifest(tmp_path, Settings())
    manifest.add(Outcome("a", "done", 2, 2))
    manifest.add(Outcome("b", "failed", error="x"))
    again = Manifest(tmp_path, Settings())
    assert again.finished("a")
    assert not again.finished("b"), "failed videos are tried again"
    assert not Manifest(tmp_path, Settings(num_frames=8)).finished("a")


def test_names_stay_unique():
    assert unique_names([Path("x/1.mp4"), Path("y/1.mp4"), Path("2.mp4")]) == ["x_1_mp4", "y_1_mp4", "2"]


def test_products_are_never_taken_for_sources(tmp_path):
    for name in ("real/a.mp4", "real/frames/a/000.png", "real/.hidden.mp4", "real/masks/b.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [v.path for v in Layout().sources(tmp_path, Group("real", images=True))] == ["real/a.mp4"]


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"engine": "spark"}, ConfigError, "local or ray"),
        ({"mode": "all"}, ConfigError, "fixed_stride"),
        ({"layout": "nonsense"}, ConfigError, "nonsense"),
        ({"comp": "c99"}, DataError, "c99"),
        ({"detector": "dnn"}, ConfigError, "dnn"),
    ],
)
def test_wrong_options_are_answered_at_once(originals, tmp_path, options, error, word):
    with pytest.raises(error, match=word):
        run(originals, tmp_path, **options)


@pytest.mark.parametrize("script", ["preprocess", "rearrange", "to_lmdb"])
@pytest.mark.parametrize("inside", [False, True])
def test_commands_start_from_both_places(script, inside):
    command = [sys.executable, f"{script}.py" if inside else f"preprocessing/{script}.py", "--dataset_name", "none"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT / "preprocessing" if inside else ROOT, check=False
    )
    assert done.returncode == 2
    assert only_error(done.stderr).startswith("error: dataset_name: `none`")
