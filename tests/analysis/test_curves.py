import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from analysis.curves import auc_caption, draw_det, draw_histogram, draw_roc, main, thin
from common import style
from common.errors import DataError
from common.rundir import open_run


def test_thinning_keeps_the_curve():
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.random(50_000)), np.sort(rng.random(50_000))
    x[0] = y[0] = 0
    x[-1] = y[-1] = 1
    few_x, few_y = thin(x, y, 500)
    assert len(few_x) <= 500
    assert (few_x[0], few_y[0], few_x[-1], few_y[-1]) == (0, 0, 1, 1)
    assert np.abs(np.interp(x, few_x, few_y) - y).max() < 0.01


def test_roc_line_encloses_the_area_it_names(run_dir):
    data = open_run(run_dir).predictions("DFDCP")
    with style.figure() as (_, axes):
        draw_roc(axes, {"DFDCP": data})
        line = next(line for line in axes.get_lines() if line.get_label() == "DFDCP")
        x, y = line.get_data()
    auc = roc_auc_score(data.label, data.prob)
    assert np.trapezoid(y, x) == pytest.approx(auc, abs=1e-9)
    assert f"{auc:.3f}" in auc_caption("DFDCP", data)


def test_det_of_normal_scores_is_a_straight_line(run_dir):
    rng = np.random.default_rng(0)
    data = open_run(run_dir).predictions("DFDCP")
    score = np.concatenate([rng.normal(0, 1, 20_000), rng.normal(1.5, 1, 20_000)])
    made = type(data)(
        np.arange(40_000).astype(str),
        np.zeros(40_000, int),
        np.repeat([0, 1], 20_000),
        np.repeat([0, 1], 20_000),
        1 / (1 + np.exp(-score)),
    )
    with style.figure() as (_, axes):
        draw_det(axes, {"normal": made})
        x, y = next(line for line in axes.get_lines() if line.get_label() == "normal").get_data()
    middle = (np.abs(x) < 1.5) & (np.abs(y) < 1.5)
    slope, offset = np.polyfit(x[middle], y[middle], 1)
    # FNR deviate = -(FPR deviate) - d', with d' = 1.5.
    assert slope == pytest.approx(-1, abs=0.05)
    assert offset == pytest.approx(-1.5, abs=0.05)


def test_histogram_holds_each_class_whole(run_dir):
    data = open_run(run_dir).predictions("DFDCP")
    with style.figure() as (_, axes):
        draw_histogram(axes, data, "DFDCP")
        totals = [patch.get_data().values.sum() for patch in axes.patches]
    assert totals == pytest.approx([100] * len(totals))


def test_command_writes_png_and_pdf(run_dir, make_run_dir, tmp_path, capsys):
    other = make_run_dir("other", datasets=("FaceForensics++", "Celeb-DF-v2"), gain=0.5)
    arguments = [str(run_dir), str(other), "--names", "good", "poor", "--datasets", "Celeb-DF-v2", "--level", "video"]
    main([*arguments, "--out", str(tmp_path / "out")])
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == sorted(
        f"Celeb-DF-v2_video_{kind}.{suffix}" for kind in ("roc", "det", "scores") for suffix in ("png", "pdf")
    )
    assert (tmp_path / "out" / "Celeb-DF-v2_video_roc.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(DataError, match=r"no test set DFDCP"):
        main([str(run_dir), str(other), "--names", "a", "b", "--datasets", "DFDCP"])
