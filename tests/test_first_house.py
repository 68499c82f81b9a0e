"""A run of the first version of this project is read by today's: test, resume, predict, report, leaderboard."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.training_runs import call, state

from analysis import leaderboard, report
from common.rundir import open_run
from training import Predictor, test

FIRST = Path(__file__).parent / "fixtures" / "first_house"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the old run, beside its data, as the present folder."""
    shutil.copytree(FIRST, tmp_path / "house")
    monkeypatch.chdir(tmp_path / "house")
    return tmp_path / "house"


def test_testing_it_again_gives_the_same_answers(house):
    before = open_run("run").predictions("FaceForensics++")
    assert call(["--detector_path", "run", "--device", "cpu"], test.main) == 0
    after = open_run("run").predictions("FaceForensics++")
    assert after.video.tolist() == before.video.tolist()
    assert after.frame.tolist() == before.frame.tolist()
    np.testing.assert_allclose(after.prob, before.prob, atol=1e-5)
    kept = np.load(FIRST / "run" / "results" / "FaceForensics++" / "features.npz")["feat"]
    np.testing.assert_allclose(open_run("run").features("FaceForensics++")["feat"], kept, atol=1e-4)


def test_it_is_resumed(house):
    words = ["--detector_path", "settings.yaml", "--device", "cpu", "--log_dir", "run", "--resume", "auto"]
    assert call([*words, "--max_steps", "9", "--set", "nEpochs=6"]) == 0
    assert state(house / "run" / "checkpoints" / "last.pth")["step"] == 9
    steps = [entry["step"] for entry in open_run("run").history() if "loss/overall" in entry]
    assert steps == list(range(1, 10))


def test_its_weights_predict(house):
    import lmdb

    from training.dataset.storage import LmdbStorage

    reader = LmdbStorage("lmdb/FaceForensics++_lmdb")
    with lmdb.open("lmdb/FaceForensics++_lmdb", readonly=True, lock=False) as environment, environment.begin() as txn:
        keys = sorted(key.decode().replace("\\", "/") for key, _ in txn.cursor())
    frames = [key for key in keys if "/frames/" in key and "/974/" in key]
    predictor = Predictor("run", device="cpu")
    before = open_run("run").predictions("FaceForensics++")
    wanted = before.prob[[name.endswith("/974") for name in before.video.tolist()]]
    np.testing.assert_allclose(predictor.score(np.stack([reader.read_image(key) for key in frames])), wanted, atol=1e-5)
    assert predictor.trained_on == ["FaceForensics++"]


def test_its_results_make_a_report_and_a_table(house):
    assert report.main(["run"]) == 0
    assert "0.750" in Path("run/report.html").read_text(encoding="utf-8")
    assert leaderboard.main(["run", "--out", "tables"]) == 0
    assert any("0.7500" in path.read_text() for path in Path("tables").glob("*.md"))
