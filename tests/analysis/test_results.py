import json

import numpy as np
import pytest

from common.errors import DataError
from common.predictions import read_predictions
from common.rundir import open_run, unique_names


def test_predictions_come_back_as_written(run_dir):
    run = open_run(run_dir)
    data = run.predictions("DFDCP")
    lines = (run_dir / "results/DFDCP/predictions.csv").read_text().splitlines()[1:]
    assert len(data.prob) == len(lines)
    video, frame, label, method, prob = lines[17].split(",")
    assert (data.video[17], data.frame[17], data.label[17], data.method[17]) == (
        video,
        int(frame),
        int(label),
        int(method),
    )
    assert data.prob[17] == float(prob)


def test_video_rows_are_means_of_their_frames(run_dir):
    data = open_run(run_dir).predictions("DFDCP")
    videos = data.by_video()
    for row in (0, 7):
        chosen = data.video == videos.video[row]
        assert videos.prob[row] == pytest.approx(np.mean(data.prob[chosen]))
        assert videos.label[row] == data.label[chosen][0]
        assert videos.frame[row] == chosen.sum()


def test_groups_are_the_label_part_of_the_name(run_dir):
    data = open_run(run_dir).predictions("DFDCP")
    assert set(data.groups()[data.label == 1]) == {"Deepfakes", "NeuralTextures"}
    assert set(data.groups()[data.label == 0]) == {"real"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "does not start with video,frame"),
        ("video,frame,label,method,prob\nx,0,1,1\n", "line 2"),
        ("video,frame,label,method,prob\nx,0,1,1,0.5\nx,0,1,1,many\n", "line 3"),
    ],
)
def test_damaged_predictions_name_the_line(tmp_path, content, message):
    (tmp_path / "predictions.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path / "predictions.csv")


def test_missing_things_are_named(tmp_path, own_run):
    with pytest.raises(DataError, match="no such run directory"):
        open_run(tmp_path / "none")
    (own_run / "results/Celeb-DF-v2/features.npz").unlink()
    with pytest.raises(DataError, match="--no-save_feat"):
        open_run(own_run).features("Celeb-DF-v2")
    (own_run / "results/results.json").write_text('{"datasets": []}')
    with pytest.raises(DataError, match="no `datasets`"):
        _ = open_run(own_run).datasets


def test_history_forgives_only_a_cut_last_line(own_run):
    path = own_run / "metrics.jsonl"
    whole = len(open_run(own_run).history())
    text = path.read_text()
    path.write_text(text + '{"step": 7, "lo')
    assert len(open_run(own_run).history()) == whole
    path.write_text('{"step": 7, "lo\n' + text)
    with pytest.raises(DataError, match=r"metrics.jsonl, line 1"):
        open_run(own_run).history()


def test_runs_of_one_detector_are_told_apart(make_run_dir):
    runs = [open_run(make_run_dir(name, datasets=("A",))) for name in ("first", "second")]
    assert unique_names(runs) == ["clip_ln (first)", "clip_ln (second)"]
    assert unique_names(runs, ["a", "b"]) == ["a", "b"]
    for bad in (["a"], ["a", "a"]):
        with pytest.raises(DataError, match="2 different names"):
            unique_names(runs, bad)
    summary = json.loads((runs[0].path / "results/results.json").read_text())
    assert runs[0].data_note == summary["data_note"]
