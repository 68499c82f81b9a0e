"""One class knows a run directory's names; a run is meant by its folder or config.yaml; its result is best, else last."""

import ast
from pathlib import Path

import pytest

from common.errors import DataError, WeightsError
from common.rundir import RunDir, open_run, run_meant

ROOT = Path(__file__).parents[2]
NAMES = {
    "results.json",
    "checkpoints",
    "predictions.csv",
    "features.npz",
    "metrics.jsonl",
    "metrics.json",
    "operating_point.json",
    "last.pth",
    "best.pth",
    "report.html",
    "skipped.txt",
}


def spelled(path: Path) -> set[str]:
    """Return the names that a file spells as whole texts of its code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in NAMES}


def test_no_other_file_spells_its_names():
    rooms = ("preprocessing", "training", "prediction", "analysis", "benchmarks", "common")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): names for path in files if (names := spelled(path))}
    assert set(found) == {"common/rundir.py"}, found


def test_a_run_is_meant_by_its_folder_or_its_configuration(tmp_path):
    (tmp_path / "config.yaml").touch()
    (tmp_path / "clip_ln.yaml").touch()
    assert run_meant(tmp_path).path == tmp_path
    assert run_meant(tmp_path / "config.yaml").path == tmp_path
    assert run_meant(tmp_path / "clip_ln.yaml") is None
    with pytest.raises(DataError, match="no such run directory"):
        open_run(tmp_path / "none")


def test_the_result_of_a_run_is_its_best_else_its_last_checkpoint(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(WeightsError, match="keeps no checkpoint"):
        run.kept_weights()
    run.checkpoints.mkdir()
    run.last.touch()
    assert run.kept_weights() == run.last
    run.best.touch()
    assert run.kept_weights() == run.best
