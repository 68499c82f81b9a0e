import base64
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from analysis.report import figure_title, main, write_report
from analysis.reporting import charts
from analysis.reporting.charts import series
from analysis.reporting.faces import example_groups
from analysis.reporting.sections import Section, folder_of, write_section
from common import style
from common.errors import DataError


class Page(HTMLParser):
    """The text of a page in reading order, its pictures and its links to other files."""

    void = {"meta", "img", "br", "link"}

    def __init__(self, html):
        super().__init__()
        self.words, self.images, self.outside, self.open = [], [], [], []
        self.contents, self.ids = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        address = values.get("src") or values.get("href")
        if address and address.startswith("#"):
            self.contents.append(address[1:])
        elif address and not address.startswith("data:"):
            self.outside.append(address)
        self.ids += [values["id"]] if "id" in values else []
        if tag == "img":
            self.images.append((values["src"], values["alt"]))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title") and data.strip():
            self.words.append(data.strip())


@pytest.fixture(scope="module")
def page(run_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(run_dir, folder)
    return Page(write_report(folder).read_text())


def test_first_line_is_the_nature_of_the_data(page):
    assert page.words[0].startswith("About the training data: These are procedurally rendered faces")


def test_page_is_whole_and_needs_no_other_file(page):
    assert page.open == []
    assert page.outside == []
    for source, alt in page.images:
        assert alt
        head, content = source.split(",", 1)
        raw = base64.b64decode(content, validate=True)
        assert raw.startswith((b"<?xml", b"\xff\xd8"))
        assert head in ("data:image/svg+xml;base64", "data:image/jpeg;base64")


def test_the_contents_lead_to_every_part(page):
    assert page.contents == page.ids
    own = [name for name in page.ids if not name.startswith("section-")]  # those of tools that were used on the run
    assert own == ["run", "results", "curves", "training", "faces"]
    assert page.words.index("Example faces", page.words.index("Training")) > 0


def test_cards_say_what_their_numbers_are(page, run_dir):
    datasets = json.loads((run_dir / "results/results.json").read_text())["datasets"]
    for metrics in datasets.values():
        auc = metrics["frame"]["auc"]
        assert f"AUC {auc['low']:.2f}–{auc['high']:.2f}" in page.words
        note = next(
            word for word in page.words if word.startswith(f"95 % interval, around {auc['value']:.2f} · frames;")
        )
        assert f"videos {metrics['video']['auc']['value']:.2f}" in note


def test_each_loss_has_a_panel_of_its_own():
    history = [{"step": n, "loss/overall": 2.0, "loss/cls": 1.0, "loss/id": 0.1, "val/auc": 0.5} for n in range(3)]
    with style.figure(rows=1, columns=4, squeeze=False) as (_, panels):
        charts._draw_panels(panels.flat, "Loss", charts.series(history, "loss/"))
        assert [axes.get_title(loc="left") for axes in panels.flat] == ["overall", "cls", "id", ""]
        assert [len(axes.lines) for axes in panels.flat] == [1, 1, 1, 0]
    assert [chart["alt"] for chart in charts.training_charts(history)] == [
        "Training loss and its parts", "Validation metrics over training"
    ]  # fmt: skip


def test_tables_show_the_figures_of_results_json(page, run_dir):
    text = " ".join(page.words)
    datasets = json.loads((run_dir / "results/results.json").read_text())["datasets"]
    for name, metrics in datasets.items():
        assert name in text
        for level in ("frame", "video"):
            for figure in metrics[level].values():  # of 20 videos a class, so that the interval comes first
                assert f"{figure['low']:.3f}–{figure['high']:.3f} {figure['value']:.3f}" in text
    for word in ("TNR at 95 % TPR", "0123456789ab", "best frame auc on val", "NeuralTextures", "optimizer:"):
        assert word in text


def test_every_face_has_its_probability_and_the_maps_are_shown(page):
    faces = [alt for _, alt in page.images if "fake probability" in alt]
    assert len(faces) == 3 * 2 * 2 * 6  # test sets, groups, rows (image and W), faces
    assert "Fakes with the lowest scores: W" in page.words
    assert sum(bool(re.match(r"\d\.\d\d · ", word)) for word in page.words) == 3 * 2 * 6


def test_sections_of_tools_are_shown(own_run):
    from PIL import Image

    folder = folder_of(own_run, "robustness")
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 700, 3), np.uint8)).save(folder / "curves.png")
    section = Section(
        "Robustness", "AUC over severity.", ["curves.png"], ["JPEG"], ["kind", "AUC"], [["jpeg <b>", "0.9"]]
    )
    write_section(folder, section)
    html = write_report(own_run).read_text()
    page = Page(html)
    assert "Robustness" in page.words
    assert any(alt == "JPEG" and source.startswith("data:image/png") for source, alt in page.images)
    assert 'style="max-width:350px"' in html, "two pixels of the file are one of the page"
    assert "jpeg <b>" in page.words, "text is escaped, not taken as HTML"
    (folder / "curves.png").unlink()
    with pytest.raises(DataError, match=r"curves.png.*run that tool again"):
        write_report(own_run)


def test_a_bare_run_still_has_a_report(own_run):
    for name in ("metrics.jsonl", "config.yaml"):
        (own_run / name).unlink()
    for folder in (own_run / "results").iterdir():
        if folder.is_dir():
            for path in folder.iterdir():
                path.unlink()
    results = json.loads((own_run / "results/results.json").read_text())
    kept = {key: results[key] for key in ("detector", "datasets")}
    kept["datasets"]["Celeb-DF-v2"]["frame"]["auc"] |= {"low": None, "high": None}
    (own_run / "results/results.json").write_text(json.dumps(kept))
    words = Page(write_report(own_run).read_text()).words
    assert words[0] == "clip_ln: deepfake detection report"
    assert "Training" not in words


def test_few_videos_are_said(own_run):
    results = json.loads((own_run / "results/results.json").read_text())
    results["datasets"]["Celeb-DF-v2"]["counts"]["videos_real"] = 1
    (own_run / "results/results.json").write_text(json.dumps(results))
    assert "only 1 video in the smallest class" in write_report(own_run).read_text()


def test_series_leave_out_nulls():
    history = [{"step": 1, "loss/a": 2.0}, {"step": 2, "loss/a": None}, {"epoch": 3, "val/auc": 0.5, "loss/a": 1}]
    assert series(history, "loss/") == {"a": ([1, 3], [2.0, 1])}


def test_titles():
    assert figure_title("auc") == "AUC"
    assert figure_title("tnr_at_tpr99.5") == "TNR at 99.5 % TPR"


def test_command(own_run, capsys):
    assert main([str(own_run)]) == 0
    assert Path(capsys.readouterr().out.strip()) == own_run / "report.html"


def test_program_ends_with_one_sentence(tmp_path):
    script = Path(__file__).parents[2] / "analysis" / "report.py"
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} holds no results")
    assert len(done.stderr.splitlines()) == 1


def test_every_map_stands_with_the_faces_it_is_of(tmp_path):
    """The sheet as the evaluator writes it: also the last group's maps, each with its own faces' names."""
    from common.rundir import TestFiles
    from training.trainer.evaluator import Example
    from training.trainer.results import _write_examples

    def example(video):
        return Example(1.0, f"X/{video}", 3, 0.25, np.zeros((8, 8, 3), np.uint8), {"boundary": np.ones((2, 2))})

    groups = {"fake, called real": [example("a"), example("b")], "real, called real": [example("c")]}
    _write_examples(TestFiles(tmp_path), groups)
    found = example_groups(tmp_path, "X")["groups"]
    shown = [(group["title"], [face["alt"].split(": ")[1].split(",")[0] for face in group["faces"]]) for group in found]
    assert shown == [
        ("Fakes with the lowest scores", ["X/a", "X/b"]),
        ("Fakes with the lowest scores: Boundary Mining's W", ["X/a", "X/b"]),
        ("Reals with the lowest scores", ["X/c"]),
        ("Reals with the lowest scores: Boundary Mining's W", ["X/c"]),
    ]
