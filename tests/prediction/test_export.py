"""A detector as one graph: the same probabilities, a batch of any size, and prediction without torch."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.detector_checks import build
from helpers.training_runs import ROOT, environment

from common.errors import ConfigError, DataError
from prediction import graph
from training import Predictor

pytest.importorskip("onnx", reason="pip install -e '.[export]'")
pytest.importorskip("onnxscript", reason="pip install -e '.[export]'")
pytest.importorskip("onnxruntime", reason="pip install -e '.[export]'")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    predictor = Predictor(run, device="cpu")
    return predictor, folder, graph.export(predictor, folder, int8=True)


def test_all_files_answer_as_the_detector(exported):
    predictor, folder, found = exported
    assert json.loads((folder / graph.PARITY).read_text()) == found
    assert found["files"][graph.ONNX]["difference"] <= 1e-4
    assert found["files"][graph.PROGRAM]["difference"] <= 1e-4
    assert found["files"][graph.INT8]["difference"] < 0.2
    images = graph.trial(predictor, 5, 9)
    other = graph.OnnxPredictor(folder)
    assert other.probabilities(images) == pytest.approx(predictor.probabilities(images), abs=1e-5)
    assert np.ptp(other.probabilities(images)) > 0
    assert (other.trained_on, other.resolution, other.points) == (["FaceForensics++"], 32, predictor.points)
    assert graph.ONNX in graph.told(found)


def test_predict_needs_no_torch(exported, video, tmp_path):
    predictor, folder, _ = exported
    words = ["predict.py", str(video), "--onnx", str(folder), "--num_frames", "2", "--format", "jsonl"]
    script = (
        f"import sys; sys.modules['torch'] = None; sys.argv = {words!r}\nfrom prediction import predict; predict.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["prob"] == pytest.approx(predictor.predict(video, 2).prob, abs=1e-4)
    assert row["trained_on"] == ["FaceForensics++"]


def test_a_graph_that_answers_otherwise_is_not_used(run, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "TOLERANCE", -1.0)
    with pytest.raises(ConfigError, match="answers otherwise"):
        graph.export(Predictor(run, device="cpu"), tmp_path)
    with pytest.raises(DataError, match=r"export\.json"):
        graph.OnnxPredictor(tmp_path)
    with pytest.raises(DataError, match="there is no"):
        graph.OnnxPredictor(tmp_path / "none.onnx")


def test_what_cannot_be_exported_says_why(run):
    predictor = Predictor(run, device="cpu")
    forward = predictor.detector.forward

    def by_value(batch, inference=False):
        assert float(batch["image"].sum()) > -1e9
        return forward(batch, inference)

    predictor.detector.forward = by_value
    with pytest.raises(ConfigError, match="meso4 cannot be exported: "):
        graph.program_of(predictor)


def test_a_clip_towers_batch_stays_free():
    """A length taken by `len` fixes the batch in the graph; attention's fast path does too."""
    detector = build("clip", backbone_name="tiny", resolution=32).eval()
    sizes = SimpleNamespace(name="clip", detector=detector, resolution=32, clip_size=None)
    module = graph.program_of(sizes).module()
    for count in graph.BATCHES:
        images = torch.from_numpy(graph.trial(sizes, count))
        with torch.inference_mode():
            wanted = detector(detector.prepare({"image": images}), inference=True)["prob"]
            assert module(images).numpy() == pytest.approx(wanted.numpy(), abs=1e-5)
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_extra_names_what_export_needs():
    assert "export = [" in (ROOT / "pyproject.toml").read_text()
