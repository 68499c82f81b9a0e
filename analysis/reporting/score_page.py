"""The report of somebody's scores: one page in the form of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.reporting.sheet import Sheet

if TYPE_CHECKING:
    from analysis.reporting.score_file import ScoreFile

MOST_CURVES = 10


def write_page(
    data: ScoreFile,
    metrics: dict[str, dict[str, Any]],
    levels: Sequence[Sheet],
    sections: Sequence[Sheet],
    path: Path,
    facts: Sequence[tuple[str, str]],
) -> Path:
    """Write the page and return its path.

    Args:
        data, metrics: the scores and their figures. levels: the tables of results. sections: further ones.
        facts: names and values that stand above.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from analysis.report import TEMPLATES
    from common.io import atomic_write

    page = (
        Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
        .get_template("report.html.j2")
        .render(
            title="Scores of deepfake detectors",
            subtitle=f"{len(metrics)} detector{'s' * (len(metrics) != 1)} on {len(set(data.video))} pictures or videos.",
            data_note="",
            tiles=[_tile(name, figures) for name, figures in metrics.items()],
            facts=facts,
            config="",
            interval_note=levels[-1].caption,
            tables=[{"title": sheet.title, "columns": sheet.columns, "rows": sheet.rows} for sheet in levels],
            curves=_curves(data, metrics),
            examples=[],
            maps="",
            training=[],
            sections=[
                {"title": s.title, "text": s.caption, "charts": [], "columns": s.columns, "rows": s.rows}
                for s in sections
            ],
        )
    )
    atomic_write(path, page)
    return path


def _tile(name: str, figures: dict[str, Any]) -> dict[str, str]:
    auc = figures["video"]["auc"]
    if auc["value"] is None:
        return {"name": name, "value": "–", "note": figures["one_class"]["note"]}
    interval = "" if auc["low"] is None else f", 95 % interval {auc['low']:.3f}–{auc['high']:.3f}"
    return {"name": name, "value": f"{auc['value']:.3f}", "note": f"video AUC{interval}"}


def _curves(data: ScoreFile, metrics: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """Draw ROC and risk over coverage of videos, of the detectors with the largest AUC where there are many."""
    import numpy as np

    from analysis.curves import thin
    from common import style
    from training.metrics.beside import thinned
    from training.metrics.ranking import roc_points
    from training.metrics.samples import gather
    from training.metrics.selective import risk_coverage

    ranked = sorted((m["video"]["auc"]["value"] or 0.0, name) for name, m in metrics.items() if "one_class" not in m)
    best = [name for _, name in reversed(ranked)][:MOST_CURVES]
    if not best:
        return []
    videos = {}
    for name in best:
        part = data.where(~np.isnan(data.scores[name]))
        videos[name] = gather(part.label, part.scores[name], part.video).by_video()
    charts = []
    with style.figure(4.2, 3.9) as (drawing, axes):
        axes.plot([0, 1], [0, 1], color=style.NEUTRAL, linewidth=0.8, linestyle=":")
        for number, (name, one) in enumerate(videos.items()):
            fpr, tpr, _ = roc_points(one.label.astype(int), one.prob)
            axes.plot(
                *thin(fpr, tpr),
                label=f"{name} {metrics[name]['video']['auc']['value']:.3f}",
                **style.line_style(number),
            )
        axes.set(
            xlabel="False-positive rate",
            ylabel="True-positive rate",
            xlim=(-0.01, 1),
            ylim=(0, 1.01),
            title="ROC, videos",
        )
        axes.legend(loc="lower right", fontsize=7)
        charts.append({"src": style.data_uri(drawing), "alt": "ROC curves"})
    with style.figure(4.2, 3.9) as (drawing, axes):
        for number, (name, one) in enumerate(videos.items()):
            threshold = metrics[name]["risk_coverage"]["threshold"]
            coverage, risk, area = risk_coverage(one.label.astype(int), one.prob, threshold)
            axes.plot(*thinned(coverage, risk), label=f"{name} {area:.3f}", **style.line_style(number))
        axes.set(
            xlabel="Coverage: share of the most certain", ylabel="Risk: share of them that is wrong", xlim=(0, 1.01)
        )
        axes.set(ylim=(0, None), title="Risk over coverage, videos")
        axes.legend(fontsize=7)
        charts.append({"src": style.data_uri(drawing), "alt": "Risk over coverage"})
    return charts
