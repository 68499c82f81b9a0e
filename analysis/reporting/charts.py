"""The charts of a report, as SVG inside the page."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.curves import auc_caption, draw_det, draw_histogram, draw_roc
from analysis.reporting.sections import read_sections
from common import style
from common.errors import DataError
from common.predictions import Predictions
from common.rundir import RunDir
from training.metrics.decision import HALF

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Chart = dict[str, str]
SIZE = (4.2, 3.9)
PANELS, PANEL = 4, (2.3, 1.9)  # in a row of a chart of training, and the size of each, inches
WIDEST = 960  # CSS pixels of a tool's figure


def curve_charts(source: RunDir) -> list[Chart]:
    """Return ROC and DET over all test sets of both classes and a score histogram per test set, of frames; risk over coverage
    of videos.
    """
    having = [name for name in source.datasets if source.of(name).predictions.exists()]
    if not having:
        return []
    curves = {name: source.predictions(name) for name in having}
    charts = ranked_charts(source, {name: data for name, data in curves.items() if not data.one_class})
    charts.append(risk_chart(curves))
    for name, data in curves.items():
        with style.figure(SIZE[0], 2.9) as (drawing, axes):
            draw_histogram(axes, data, name)
            charts.append({"src": style.data_uri(drawing), "alt": f"Score histogram of {name}"})
    return charts


def ranked_charts(source: RunDir, curves: dict[str, Predictions]) -> list[Chart]:
    """Return the ROC and the DET of test sets of both classes; nothing of none."""
    if not curves:
        return []
    charts = []
    with style.figure(*SIZE) as (drawing, axes):
        figures = {name: source.datasets[name]["frame"]["auc"] for name in curves}
        draw_roc(axes, curves, {name: auc_caption(name, data, figures[name]) for name, data in curves.items()})
        axes.set_title("ROC, frames")
        charts.append({"src": style.data_uri(drawing), "alt": "ROC curves of all test sets"})
    with style.figure(*SIZE) as (drawing, axes):
        draw_det(axes, curves)
        axes.set_title("DET, frames")
        charts.append({"src": style.data_uri(drawing), "alt": "DET curves of all test sets"})
    return charts


def risk_chart(curves: dict[str, Predictions], threshold: float = HALF) -> Chart:
    """Return the share of wrong verdicts among the most certain videos over how many of them are judged."""
    from training.metrics.beside import thinned
    from training.metrics.selective import risk_coverage

    with style.figure(*SIZE) as (drawing, axes):
        for number, (name, data) in enumerate(curves.items()):
            videos = data.by_video()
            coverage, risk, area = risk_coverage(videos.label, videos.prob, threshold)
            axes.plot(*thinned(coverage, risk), label=f"{name}, area {area:.3f}", **style.line_style(number))
        axes.set(xlabel="Coverage: share of the most certain", ylabel="Risk: share of them that is wrong")
        axes.set(xlim=(0, 1.01), title="Risk over coverage, videos")
        axes.set_ylim(0, max(0.05, axes.get_ylim()[1]))
        axes.legend(loc="best", fontsize=7)
        return {"src": style.data_uri(drawing), "alt": "Risk over coverage of all test sets"}


def series(history: list[dict], prefix: str) -> dict[str, tuple[list[float], list[float]]]:
    """Return key → (steps, values) of the history's keys that start with `prefix`; nulls are left out."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for position, entry in enumerate(history):
        for key, value in entry.items():
            if key.startswith(prefix) and isinstance(value, int | float):
                steps, values = found.setdefault(key.removeprefix(prefix), ([], []))
                steps.append(entry.get("step", entry.get("epoch", position)))
                values.append(value)
    return found


def training_charts(history: list[dict]) -> list[Chart]:
    """Return the losses, the validation metrics and the learning rate over steps; those that the history has.

    A chart has a panel for each loss, and for each metric: they differ by orders of magnitude.
    """
    groups = [
        ("Loss", series(history, "loss/"), "Training loss and its parts"),
        ("Validation", series(history, "val/"), "Validation metrics over training"),
        ("Learning rate", {k: v for k, v in series(history, "lr").items() if k == ""}, "Learning rate over training"),
    ]
    charts = []
    for title, lines, alt in groups:
        if not lines:
            continue
        columns = min(len(lines), PANELS)
        rows = -(-len(lines) // columns)
        size = (SIZE[0], 2.9) if len(lines) == 1 else (PANEL[0] * columns, PANEL[1] * rows + 0.3)
        with style.figure(*size, rows=rows, columns=columns, squeeze=False, sharex=True) as (drawing, panels):
            _draw_panels(panels.flat, title, lines)
            if len(lines) > 1:
                drawing.suptitle(title)
            charts.append({"src": style.data_uri(drawing), "alt": alt, "class": "broad" if columns > 2 else ""})
    return charts


def _draw_panels(panels: Iterable[Axes], title: str, lines: dict[str, tuple[list[float], list[float]]]) -> None:
    """Draw a line a panel, `overall` first, and hide the panels that are left over."""
    names = sorted(lines, key=lambda name: name != "overall")
    for axes, name in itertools.zip_longest(panels, names):
        if name is None:
            axes.set_axis_off()
            continue
        steps, values = lines[name]
        # A handful of points is no curve without marks.
        axes.plot(steps, values, marker="o" if len(steps) < 30 else None, markersize=3, **style.line_style(0))
        axes.set(xlabel="Step", title=name or title)
        if title == "Learning rate":
            axes.set_ylim(bottom=0)


def section_charts(run_dir: Path) -> list[dict[str, Any]]:
    """Return what the analysis tools left for the report, their PNG files inlined."""
    sections = []
    for folder, section in read_sections(run_dir):
        charts: list[dict[str, Any]] = []
        for number, name in enumerate(section.figures):
            try:
                picture = (folder / name).read_bytes()
            except OSError as error:
                raise DataError(f"cannot read {folder / name}: {error.strerror}; run that tool again") from error
            caption = section.captions[number] if number < len(section.captions) else name
            # Bytes 16 to 20 of a PNG are its width; half of it makes the text of a figure as large as the page's.
            width = min(WIDEST, int.from_bytes(picture[16:20], "big") // 2)
            content = base64.b64encode(picture).decode()
            charts.append({"src": f"data:image/png;base64,{content}", "alt": caption, "width": width})
        sections.append(
            {
                "title": section.title,
                "text": section.text,
                "charts": charts,
                "columns": section.columns,
                "rows": section.rows,
            }
        )
    return sections
