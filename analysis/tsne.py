"""Saved features in two dimensions (t-SNE and PCA), with alignment, uniformity and a linear identity probe.

    python analysis/tsne.py logs/clip_ln/2026-01-01-12-00-00 --datasets Celeb-DF-v2 DFDCP

Several run directories give one figure each and one common table: how well identity can be read off the features with and
without the identity head, say.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.cli import MOST_SEED, add_common, run, whole
from common.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from common.rundir import RunDir

MOST_NAMES = 7  # as many as there are pairs of colour and mark


def gather_features(source: RunDir, datasets: list[str]) -> dict[str, NDArray]:
    """Return the features of several test sets together; `dataset` names where a row comes from."""
    parts = [source.features(name) | {"dataset": np.array([name])} for name in datasets]
    sizes = [len(part["feat"]) for part in parts]
    if any(part["feat"].ndim != 2 or part["feat"].shape[1] != parts[0]["feat"].shape[1] for part in parts):
        raise DataError(
            f"features of {source.path} have different widths; test the run again on all of {', '.join(datasets)}"
        )
    keys = ("feat", "label", "method", "target_id", "video")
    joined = {key: np.concatenate([part[key] for part in parts]) for key in keys}
    joined["dataset"] = np.repeat(datasets, sizes)
    parted = [name.split("/") for name in joined["video"].tolist()]
    joined["manipulation"] = np.array(
        ["real" if not fake else (part[1] if len(part) > 2 else "fake") for fake, part in zip(joined["label"], parted)]
    )
    return joined


def embed(feat: NDArray, method: str, seed: int) -> NDArray[np.float64]:
    """Return features `(N, D)` in two dimensions: principal components, or t-SNE (van der Maaten & Hinton 2008) started there."""
    from sklearn.decomposition import PCA

    if method == "pca":
        return PCA(2, random_state=seed).fit_transform(feat)
    from sklearn.manifold import TSNE

    if feat.shape[1] > 50:
        feat = PCA(min(50, len(feat)), random_state=seed).fit_transform(feat)
    perplexity = min(30.0, max(2.0, (len(feat) - 1) / 3))
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(feat)


def draw_points(axes: Axes, points: NDArray, names: NDArray, title: str) -> None:
    """Draw points `(N, 2)` coloured by name; beyond seven names the rarer ones are grey."""
    from common import style

    kinds, counts = np.unique(names, return_counts=True)
    shown = kinds[np.argsort(-counts, kind="stable")][:MOST_NAMES]
    shown = sorted(shown, key=lambda name: (name != "real", name))
    size = float(np.clip(8000 / len(points), 7, 32))
    rest = ~np.isin(names, shown)
    if rest.any():
        others = f"{len(kinds) - len(shown)} others"
        axes.scatter(points[rest, 0], points[rest, 1], s=0.6 * size, color="#BBBBBB", linewidths=0, label=others)
    for number, name in enumerate(shown):
        own = names == name
        look: dict[str, Any] = {"color": style.PALETTE[number % len(style.PALETTE)], "marker": style.marker(number)}
        axes.scatter(points[own, 0], points[own, 1], s=size, alpha=0.65, linewidths=0, label=str(name), **look)
    axes.set(title=title, xticks=[], yticks=[])
    axes.grid(False)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3, markerscale=1.6, handletextpad=0.1, columnspacing=0.8
    )


def numbers(data: dict[str, NDArray], rng: np.random.Generator) -> dict[str, Any]:
    """Return alignment, uniformity and the identity probe of the features."""
    from analysis.measures.features import MOST, alignment, identity_probe, subsample, uniformity

    rows = subsample(len(data["feat"]), MOST, rng)
    people = data["feat"], data["target_id"], data["video"]
    return {
        "samples": len(data["feat"]),
        "alignment": alignment(data["feat"][rows], data["label"][rows]),
        "uniformity": uniformity(data["feat"][rows]),
        "identity_probe": identity_probe(*people, rng),
        "identity_probe_standardised": identity_probe(*people, rng, standardise=True),
    }


def write_run(source: RunDir, datasets: list[str], methods: list[str], points: int, seed: int) -> dict[str, Any]:
    """Write figures, features.json and the report section of one run; return its numbers."""
    from analysis.measures.features import subsample
    from analysis.reporting.sections import Section, folder_of, write_section
    from common import style
    from common.io import write_json

    folder = folder_of(source.path, "tsne")
    data = gather_features(source, datasets)
    found = {name: numbers(gather_features(source, [name]), np.random.default_rng(seed)) for name in datasets}
    write_json(folder / "features.json", found)
    rows = subsample(len(data["feat"]), points, np.random.default_rng(seed))
    person = np.where(data["target_id"] >= 0, data["target_id"].astype(str), "unknown")
    if len(datasets) > 1:
        # Persons are numbered in each test set anew.
        person = np.char.add(np.char.add(data["dataset"].astype(str), " "), person)
    colours = {
        "label": np.where(data["label"] == 1, "fake", "real"),
        "manipulation": data["manipulation"],
        "test set": data["dataset"],
        "identity": person,
    }
    figures = []
    for method in methods:
        flat = embed(data["feat"][rows], method, seed)
        with style.figure(9.2, 9.2, 2, 2) as (drawing, grid):
            for axes, (title, names) in zip(grid.flat, colours.items()):
                draw_points(axes, flat, names[rows], f"{'t-SNE' if method == 'tsne' else 'PCA'} by {title}")
            style.save(drawing, folder / method)
        figures.append(f"{method}.png")
    table = [
        [name, f"{row['alignment']:.3f}", f"{row['uniformity']:.3f}", *_probe_cells(row)] for name, row in found.items()
    ]
    text = (
        "Alignment: mean squared distance between samples of one class on the unit sphere; uniformity: log of the mean Gaussian "
        "potential (both: lower is better). Identity probe: balanced accuracy of a linear classifier on videos it has not seen, "
        "mean ± deviation over five splits of the videos; close to chance means that identity cannot be read off the features. "
        "Standardised: with every dimension spread alike, which also finds what is too faint for the detector's own head."
    )
    columns = ["Test set", "Alignment", "Uniformity", "Identity probe", "Standardised", "Chance"]
    captions = [f"{len(rows)} samples of {', '.join(datasets)}"] * len(figures)
    write_section(folder, Section("Features", text, figures, captions, columns, table))
    return found


def _probe_cells(row: dict[str, Any]) -> list[str]:
    """Return the accuracies of both probes, and chance."""
    plain, standardised = row["identity_probe"], row["identity_probe_standardised"]
    if plain is None:
        return ["–", "–", "–"]
    accuracies = [f"{probe['accuracy']:.3f} ± {probe['deviation']:.3f}" for probe in (plain, standardised)]
    return [*accuracies, f"{plain['chance']:.3f}"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="run directories with features")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="a name per run")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="default: all test sets of the run")
    parser.add_argument("--methods", nargs="+", choices=("tsne", "pca"), default=["tsne", "pca"], help="default: both")
    parser.add_argument(
        "--points", type=whole(1), default=2000, help="at most so many samples in a figure (default 2000)"
    )
    parser.add_argument(
        "--seed", type=whole(0, MOST_SEED), default=0, help="of t-SNE, the samples chosen and the probe (default 0)"
    )
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    from analysis.report import refresh_reports
    from common.progress import Progress
    from common.rundir import open_run, unique_names

    runs = [open_run(path) for path in arguments.runs]
    for name, source in Progress(list(zip(unique_names(runs, arguments.names), runs)), "runs", len(runs)):
        datasets = arguments.datasets or list(source.datasets)
        for dataset, row in write_run(source, datasets, arguments.methods, arguments.points, arguments.seed).items():
            probe, standardised, chance = _probe_cells(row)
            print(
                f"{name} on {dataset}: alignment {row['alignment']:.3f}, uniformity {row['uniformity']:.3f}, "
                f"identity probe {probe}, standardised {standardised} (chance {chance})"
            )
    refresh_reports([Path(path) for path in arguments.runs])
    return 0


if __name__ == "__main__":
    run(main)
