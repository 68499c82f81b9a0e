"""ROC, DET and score-histogram figures of one run's test sets, or of several runs on each test set.

python analysis/curves.py logs/clip_ln/2026-01-01-12-00-00
python analysis/curves.py RUN_A RUN_B --level video --out figures/curves
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from common.cli import add_common, run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from common.predictions import Predictions

DET_TICKS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
MOST_POINTS = 1500


def thin(x: NDArray, y: NDArray, points: int = MOST_POINTS) -> tuple[NDArray, NDArray]:
    """Keep about `points` of a monotone curve's points, spread evenly along it; the ends stay."""
    import numpy as np

    if len(x) <= points:
        return x, y
    way = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    chosen = np.unique(np.searchsorted(way, np.linspace(0, way[-1], points)).clip(max=len(x) - 1))
    return x[chosen], y[chosen]


def draw_roc(axes: Axes, curves: dict[str, Predictions], captions: dict[str, str] | None = None) -> None:
    """Draw one ROC curve per name: true-positive rate (fakes found) over false-positive rate (reals flagged)."""
    from common import style
    from training.metrics.ranking import roc_points

    axes.plot([0, 1], [0, 1], color=style.NEUTRAL, linewidth=0.8, linestyle=":")
    for number, (name, data) in enumerate(curves.items()):
        fpr, tpr, _ = roc_points(data.label, data.prob)
        axes.plot(*thin(fpr, tpr), label=(captions or {}).get(name, name), **style.line_style(number))
    axes.set(xlabel="False-positive rate", ylabel="True-positive rate", xlim=(-0.01, 1), ylim=(0, 1.01), title="ROC")
    axes.set_aspect("equal")
    axes.legend(loc="lower right")


def draw_det(axes: Axes, curves: dict[str, Predictions]) -> None:
    """Draw detection error trade-off curves on normal-deviate axes (Martin et al. 1997); normal scores give straight lines."""
    import numpy as np
    from scipy.stats import norm

    from common import style
    from training.metrics.ranking import roc_points

    # A rate of 0 has no normal deviate; what cannot be told from 0 with these samples is drawn at the border.
    low, high = DET_TICKS[0] / 2, 1 - DET_TICKS[0] / 2
    border = norm.ppf([low, high])
    for number, (name, data) in enumerate(curves.items()):
        fpr, tpr, _ = roc_points(data.label, data.prob)
        x, y = norm.ppf(np.clip(fpr, low, high)), norm.ppf(np.clip(1 - tpr, low, high))
        axes.plot(*thin(x, y), label=name, **style.line_style(number))
    axes.plot(border, border, color=style.NEUTRAL, linewidth=0.8, linestyle=":")
    ticks, labels = norm.ppf(DET_TICKS), [f"{100 * tick:g}" for tick in DET_TICKS]
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)
    axes.set(xlim=border, ylim=border, title="DET")
    axes.set(xlabel="False-positive rate (%)", ylabel="False-negative rate (%)")
    axes.set_aspect("equal")
    axes.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="none")


def draw_histogram(axes: Axes, data: Predictions, title: str) -> None:
    """Draw the distribution of scores of each class, every class to the same area."""
    import numpy as np

    from common import style

    bins = np.linspace(0, 1, 41)
    for label, name, colour in ((0, "real", style.REAL), (1, "fake", style.FAKE)):
        scores = data.prob[data.label == label]
        share = np.histogram(scores, bins)[0] / max(1, len(scores)) * 100
        axes.stairs(share, bins, fill=True, color=colour, alpha=0.3)
        axes.stairs(share, bins, color=colour, linewidth=1.3, label=f"{name} ({len(scores)})")
    axes.axvline(0.5, color=style.NEUTRAL, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, 1), xlabel="Fake probability", ylabel="Share of the class (%)", title=title)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2, handlelength=1.2, columnspacing=1)


def auc_caption(name: str, data: Predictions, figure: dict | None = None) -> str:
    """Return `name (AUC 0.912 [0.87, 0.95])`, with the interval where `figure`, of metrics.json, has one."""
    from training.metrics.ranking import auc, roc_points

    fpr, tpr, _ = roc_points(data.label, data.prob)
    known = figure is not None and figure.get("low") is not None
    interval = f" [{figure['low']:.2f}, {figure['high']:.2f}]" if figure is not None and known else ""
    return f"{name} (AUC {float(auc(fpr[:, None], tpr[:, None])[0]):.3f}{interval})"


def write_curves(
    curves: dict[str, Predictions], folder: Path, stem: str, captions: dict[str, str] | None = None, title: str = ""
) -> list[Path]:
    """Write `<stem>_roc`, `<stem>_det` and `<stem>_scores` as PNG and PDF into `folder`; return the paths.

    Sets of one class have scores only.

    Args:
        captions: of the ROC curves, by name. title: what all curves have in common.
    """
    from common import style

    written = []
    ranked = {name: data for name, data in curves.items() if not data.one_class}
    if ranked:
        with style.figure(4.4, 4.2) as (drawing, axes):
            draw_roc(axes, ranked, captions or {name: auc_caption(name, data) for name, data in ranked.items()})
            axes.set_title(f"ROC{title}")
            written += style.save(drawing, folder / f"{stem}_roc")
        with style.figure(4.4, 4.2) as (drawing, axes):
            draw_det(axes, ranked)
            axes.set_title(f"DET{title}")
            written += style.save(drawing, folder / f"{stem}_det")
    with style.figure(4.6, 2.4 * len(curves), rows=len(curves), sharex=True, squeeze=False) as (drawing, grid):
        for axes, (name, data) in zip(grid[:, 0], curves.items()):
            draw_histogram(axes, data, name)
            axes.label_outer()
        written += style.save(drawing, folder / f"{stem}_scores")
    return written


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="run directories with saved predictions")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="a name per run for the legend")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="test sets (default: all)")
    parser.add_argument("--level", choices=("frame", "video"), default="frame", help="default: frame")
    parser.add_argument("--out", metavar="DIR", help="default: <first run>/figures")
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    from common.errors import DataError
    from common.rundir import RunDir, open_run, unique_names

    runs = [open_run(path) for path in arguments.runs]
    names = unique_names(runs, arguments.names)
    folder = Path(arguments.out) if arguments.out else runs[0].path / "figures"
    datasets = arguments.datasets or list(runs[0].datasets)

    def curve(source: RunDir, dataset: str) -> Predictions:
        if dataset not in source.datasets:
            raise DataError(f"{source.path} has no test set {dataset}; it has {', '.join(source.datasets)}")
        data = source.predictions(dataset)
        return data.by_video() if arguments.level == "video" else data

    lines = [(name, source, dataset) for dataset in datasets for name, source in zip(names, runs)]
    figures: dict[str, dict[str, Predictions]] = {}
    captions: dict[str, dict[str, str]] = {}
    for name, source, dataset in lines:
        stem, line = ("datasets", dataset) if len(runs) == 1 else (dataset, name)
        data = curve(source, dataset)
        figures.setdefault(stem, {})[line] = data
        if data.one_class:
            print(f"{line}: one class only, so no ROC and no DET curve")
            continue
        figure = source.datasets[dataset][arguments.level]["auc"]
        captions.setdefault(stem, {})[line] = auc_caption(line, data, figure)
    for stem, curves in figures.items():
        title = f", {stem}, {arguments.level}s" if len(runs) > 1 else f", {names[0]}, {arguments.level}s"
        for path in write_curves(curves, folder, f"{stem}_{arguments.level}", captions.get(stem), title):
            print(path)
    return 0


if __name__ == "__main__":
    run(main)
