"""One command at a time writes one place; what another run took away is noticed and made again; a video has its time."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.drawn import draw_face, scene, write_video
from helpers.training_runs import environment

from common.errors import ProjectError
from preprocessing.extraction import Job, Outcome, Settings, process_video
from preprocessing.manifest import read_manifest
from preprocessing.output_lock import hold, hold_folders
from preprocessing.pool import run_here
from preprocessing.run_preprocess import Request, preprocess

HOLDER = """
import sys, time
from pathlib import Path
from preprocessing.output_lock import hold_folders
with hold_folders([Path(sys.argv[1])], None):
    print("held", flush=True)
    time.sleep(600)
"""


def person(_: int):
    image = scene()
    draw_face(image, (150, 120), 100)
    return image


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    for label in ("real", "fake"):
        for number in range(2):
            write_video(root / f"Mine/{label}/{number}.mp4", 4, person)
    return root


def cut(root: Path, out: Path, **options) -> int:
    return preprocess(Request("Mine", str(root), layout="custom", num_frames=3, output=str(out), workers=0, **options))


def pictures(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))


def test_a_second_run_on_one_output_stops_with_a_sentence_until_the_first_is_gone(originals, tmp_path):
    place = tmp_path / "Mine/real"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ProjectError, match=r"another preprocess\.py is writing .*real now; wait for it"):
            cut(originals, tmp_path)
        assert not pictures(tmp_path)
    finally:
        holder.kill()
        holder.wait()
    assert cut(originals, tmp_path) == 0  # the kernel has freed the lock of a killed run
    assert len(pictures(tmp_path)) == 12
    assert not list(tmp_path.rglob(".*.lock"))


def test_shards_share_a_place_and_nothing_else_does(tmp_path):
    with hold_folders([tmp_path], (1, 2)):
        with hold_folders([tmp_path], (2, 2)):
            pass
        for other in (None, (1, 2), (1, 3)):
            with pytest.raises(ProjectError, match="another"), hold_folders([tmp_path], other):
                pass
    with hold_folders([tmp_path], None):
        pass


def test_other_folders_are_free(tmp_path):
    with hold_folders([tmp_path / "a"], None), hold_folders([tmp_path / "b"], None):
        pass
    with (
        hold(tmp_path / "x", "busy", "--output"),
        pytest.raises(ProjectError, match="busy"),
        hold(tmp_path / "x", "busy", "--output"),
    ):
        pass


@pytest.mark.parametrize("kind", ["frames", "landmarks"])
def test_a_later_run_makes_again_what_is_not_all_there(originals, tmp_path, capsys, kind):
    assert cut(originals, tmp_path) == 0
    whole = pictures(tmp_path)
    next((tmp_path / f"Mine/fake/{kind}/1").iterdir()).unlink()
    shutil.rmtree(tmp_path / f"Mine/real/{kind}/0")
    capsys.readouterr()
    assert cut(originals, tmp_path) == 0
    assert "4 videos, 2 of them finished before" in capsys.readouterr().out
    assert pictures(tmp_path) == whole
    states = {line["video"]: line["faces"] for line in read_manifest(tmp_path / "Mine/manifest.jsonl")}
    assert set(states.values()) == {3}


def _never_ends(job: Job) -> Outcome:
    while True:
        time.sleep(0.05)


def _endless(job: Job) -> Outcome:
    return process_video(job) if job.name == "good" else _never_ends(job)


def job(folder: Path, name: str, timeout: float) -> Job:
    return Job(name, folder / f"{name}.mp4", folder / "out", name, None, Settings(num_frames=2), timeout=timeout)


def test_a_video_that_takes_too_long_fails_in_this_process(tmp_path, monkeypatch):
    monkeypatch.setattr("preprocessing.extraction._process", _never_ends)
    outcome = process_video(job(tmp_path, "slow", 0.2))
    assert outcome.state == "failed"
    assert "it took longer than 0.2 seconds" in outcome.error
    assert "--video_timeout" in outcome.error


def test_a_video_that_heeds_no_timer_costs_its_own_worker_only(tmp_path):
    """As a decoder caught in native code: the worker is ended, the other videos are done."""
    write_video(tmp_path / "good.mp4", 2, person)
    jobs = [job(tmp_path, "stuck", 1.0), job(tmp_path, "good", 60.0)]
    found = {outcome.key: outcome for outcome in run_here(jobs, 1, _endless)}
    assert found["stuck"].state == "failed"
    assert "it took longer than 1 seconds" in found["stuck"].error
    assert found["good"].state == "done"
