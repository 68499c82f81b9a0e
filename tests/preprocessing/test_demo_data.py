"""The demo data: laid out as promised, exact where it says so, the same every time, and no giveaway in plain statistics."""

import csv
import json
import subprocess
import sys

import av
import numpy as np
import pytest

from preprocessing.demo import build
from preprocessing.demo.build import QUICK, Size
from preprocessing.demo.domains import CELEB, FORENSICS, WILD
from preprocessing.demo.leakage import leak

SOME = Size(train=8, val=2, test=2, unseen=8, frames=3)


def frames(path, form="rgb24"):
    with av.open(str(path)) as container:
        return [f.to_ndarray(format=form) for f in container.decode(video=0)]


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    for _ in build.render_all(root, SOME, seed=0, workers=1):
        pass
    return root


def test_layout_is_that_of_faceforensics(some):
    root = some / "DemoForensics"
    splits = {s: json.loads((root / "splits" / f"{s}.json").read_text()) for s in ("train", "val", "test")}
    people = {s: {p for pair in pairs for p in pair} for s, pairs in splits.items()}
    assert [len(people[s]) for s in ("train", "val", "test")] == [8, 2, 2]
    assert not people["train"] & (people["val"] | people["test"])
    for pairs in splits.values():
        for a, b in pairs:
            assert (root / f"original_sequences/youtube/c23/videos/{a}.mp4").exists()
            for method in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"):
                for name in (f"{a}_{b}", f"{b}_{a}"):
                    assert (root / f"manipulated_sequences/{method}/c23/videos/{name}.mp4").exists()
                    assert (root / f"manipulated_sequences/{method}/masks/videos/{name}.mp4").exists()


def test_unseen_domains_list_their_videos(some):
    for name in ("DemoCeleb", "DemoWild"):
        rows = list(csv.DictReader((some / name / "index.csv").open()))
        assert sorted(r["label"] for r in rows) == ["fake"] * 8 + ["real"] * 8
        assert all((some / name / r["path"]).exists() and r["split"] == "test" for r in rows)


def test_masks_are_exact_and_nothing_changes_outside_them():
    job = next(j for j in build.jobs(SOME, 0) if j.domain == FORENSICS)
    film = build._Film(job, np.random.default_rng([job.seed, 4, job.target]))
    for number, (method, source) in enumerate(job.fakes):
        fake, masks = film.fake(FORENSICS.methods[method], source, number)
        for real, frame, mask in zip(film.real, fake, masks, strict=True):
            assert set(np.unique(mask)) == {0, 1}
            assert np.array_equal(frame[mask == 0], real[mask == 0])
            assert np.abs(frame - real)[mask == 1].max() > 0.02


@pytest.mark.parametrize("domain", [CELEB, WILD])
def test_unseen_forgeries_touch_only_their_mask(domain):
    for job in [j for j in build.jobs(SOME, 0) if j.domain == domain][:3]:
        film = build._Film(job, np.random.default_rng([job.seed, 4, job.target]))
        fake, masks = film.fake(domain.methods[job.fakes[0][0]], job.fakes[0][1], 0)
        assert np.array_equal(fake[0][masks[0] == 0], film.real[0][masks[0] == 0])
        assert 0.02 < masks[0].mean() < 0.35


def test_mask_videos_keep_the_masks(some):
    job = next(j for j in build.jobs(SOME, 0) if j.domain == FORENSICS)
    film = build._Film(job, np.random.default_rng([job.seed, 4, job.target]))
    _, masks = film.fake(FORENSICS.methods[job.fakes[0][0]], job.fakes[0][1], 0)
    stored = frames(some / build.paths(job)[1][0][1], "gray")
    for mask, picture in zip(masks, stored, strict=True):
        assert np.array_equal(picture > 127, mask > 0)


def assert_same_films(job, first, second):
    """What was decoded is compared, plane by plane: no conversion to RGB may hide or make a difference."""
    for video in (build.paths(job)[0], *(v for pair in build.paths(job)[1] for v in pair)):
        again = frames(second / video, None)
        assert all(np.array_equal(a, b) for a, b in zip(frames(first / video, None), again, strict=True)), video


def test_rendering_again_gives_the_same_pixels(some, tmp_path):
    for job in build.jobs(SOME, 0)[::9]:
        build.run(job, tmp_path)
        assert_same_films(job, some, tmp_path)


def test_other_processes_render_the_same_pixels(tmp_path):
    size = Size(train=0, val=0, test=0, unseen=2, frames=1)
    for name, workers in (("here", 1), ("pool", 2)):
        assert sum(build.render_all(tmp_path / name, size, seed=0, workers=workers)) == 8
    for job in build.jobs(size, 0):
        assert_same_films(job, tmp_path / "here", tmp_path / "pool")


def test_faces_are_found_in_nearly_every_frame(some):
    import dlib

    detector = dlib.get_frontal_face_detector()
    videos = [build.paths(job)[0] for job in build.jobs(SOME, 0)][::2]
    pictures = [frames(some / video)[1] for video in videos]
    found = [bool(detector(picture, 0)) for picture in pictures]
    assert np.mean(found) >= 0.95


def test_plain_statistics_give_little_away(some):
    for name, auc in leak(some, SOME).items():
        assert auc <= 0.65, f"{name}: {auc:.3f}"


def test_command_renders_once(tmp_path):
    command = [
        sys.executable,
        "-m",
        "preprocessing.demo_data",
        "--quick",
        "--output",
        str(tmp_path / "v"),
        "--workers",
        "1",
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"of {QUICK.train + QUICK.val + QUICK.test + 2 * QUICK.unseen} invented people" in first.stdout
    assert "are there" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
