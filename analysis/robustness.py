"""AUC under ten perturbations in five severities, of one detector or of several side by side.

    python analysis/robustness.py logs/clip_ln/A logs/xception/B --datasets Celeb-DF-v2 --out figures/robustness

Every frame is read once for all perturbations, at the detector's input resolution; H.264 codes the frames of a video as one
stream. What is done is kept video by video in <run>/analysis/robustness/<dataset>-<key>.jsonl, and a second call goes on from
there; the key stands for the checkpoint, the configuration, the perturbations' parameters and the seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analysis.measures.robustness_journal import CLEAN, conditions, journal_key, measure
from analysis.reporting.sheet import Sheet, write_csv, write_sheet
from common.cli import MOST_SEED, add_common, run, whole
from common.errors import DataError
from training.dataset.perturbations import KINDS, SEVERITIES

FIELDS = ("detector", "dataset", "level", "kind", "severity", "parameter", "value", "auc", "low", "high")


def summarise(
    entries: Sequence[dict], wanted: Sequence[tuple[str, int]], detector: str, dataset: str, seed: int = 0
) -> list[dict]:
    """Return one row per condition and level: AUC with its interval over videos, or over people where they are known.

    `seed` is the run's `manualSeed`: with the same videos drawn as in testing, untouched frames have testing's interval.
    """
    import numpy as np

    from common.predictions import known_people
    from training.metrics import evaluate

    rows = []
    people = known_people(np.array([entry.get("person", -1) for entry in entries], np.int64))
    for kind, severity in wanted:
        probs = [entry["prob"][f"{kind}-{severity}"] for entry in entries]
        lengths = [len(prob) for prob in probs]
        metrics = evaluate(
            np.repeat([entry["label"] for entry in entries], lengths),
            np.concatenate(probs),
            np.repeat([entry["video"] for entry in entries], lengths),
            seed=seed,
            dataset=dataset,
            person=None if people is None else np.repeat(np.array(people, object), lengths),
        )
        parameter, value = ("", "") if kind == CLEAN else (SEVERITIES[kind][0], SEVERITIES[kind][1][severity - 1])
        for level in ("frame", "video"):
            auc = metrics[level]["auc"]
            values = (detector, dataset, level, kind, severity, parameter, value, auc["value"], auc["low"], auc["high"])
            rows.append(dict(zip(FIELDS, values)))
    return rows


def kind_title(kind: str) -> str:
    """Return a perturbation's name for readers."""
    special = {"jpeg": "JPEG", "h264": "H.264", "resize": "Down-up scaling"}
    return special.get(kind, kind.replace("_", " ").capitalize())


def draw(rows: Sequence[dict], stem: Path, level: str = "frame") -> list[Path]:
    """Draw AUC over severity, one panel per perturbation, one line per detector and test set; write PNG and PDF."""
    import numpy as np

    from common import style

    rows = [row for row in rows if row["level"] == level]
    kinds = list(dict.fromkeys(row["kind"] for row in rows if row["kind"] != CLEAN))
    pairs = list(dict.fromkeys((row["detector"], row["dataset"]) for row in rows))
    several = len({detector for detector, _ in pairs}) > 1, len({dataset for _, dataset in pairs}) > 1
    columns = min(5, len(kinds))
    height = -(-len(kinds) // columns)
    with style.figure(2.15 * columns + 0.4, 2.1 * height + 0.5, height, columns, sharey=True, squeeze=False) as (
        drawing,
        grid,
    ):
        for axes, kind in zip(grid.flat, kinds):
            for number, pair in enumerate(pairs):
                line = [r for r in rows if (r["detector"], r["dataset"]) == pair and r["kind"] in (CLEAN, kind)]
                line.sort(key=lambda r: r["severity"])
                x = [r["severity"] for r in line]
                label = " · ".join(part for part, shown in zip(pair, several) if shown) or " · ".join(pair)
                axes.plot(
                    x,
                    [r["auc"] for r in line],
                    marker=style.marker(number),
                    markersize=3,
                    label=label,
                    **style.line_style(number),
                )
                low, high = (np.array([r[end] for r in line], float) for end in ("low", "high"))
                axes.fill_between(x, low, high, color=style.line_style(number)["color"], alpha=0.13, linewidth=0)
            axes.axhline(0.5, color=style.NEUTRAL, linewidth=0.8, linestyle=":")
            axes.set(
                title=kind_title(kind),
                xticks=range(6),
                ylim=(None, 1.005),
            )
        for axes in grid.flat[len(kinds) :]:
            axes.set_axis_off()
        for axes in grid[-1]:
            axes.set_xlabel("Severity")
        for axes in grid[:, 0]:
            axes.set_ylabel(f"{level.capitalize()} AUC")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))
        return style.save(drawing, stem)


def sheet(rows: Sequence[dict], level: str) -> Sheet:
    """Return the table: a line per detector, test set and perturbation, a column per severity."""
    rows = [row for row in rows if row["level"] == level]
    severities = sorted({row["severity"] for row in rows if row["kind"] != CLEAN})
    aucs = {(r["detector"], r["dataset"], r["kind"], r["severity"]): r["auc"] for r in rows}
    lines = []
    for detector, dataset, kind in dict.fromkeys((r["detector"], r["dataset"], r["kind"]) for r in rows):
        if kind == CLEAN:
            continue
        clean = aucs[detector, dataset, CLEAN, 0]
        found = [aucs[detector, dataset, kind, severity] for severity in severities]
        lines.append([detector, dataset, kind_title(kind), *(f"{auc:.4f}" for auc in [clean, *found])])
    parameters = "; ".join(
        f"{kind_title(kind)}: {SEVERITIES[kind][0]} {', '.join(str(SEVERITIES[kind][1][s - 1]) for s in severities)}"
        for kind in dict.fromkeys(row["kind"] for row in rows if row["kind"] != CLEAN)
    )
    note = f"{level.capitalize()} AUC under perturbations of the face crops at the detector's input resolution. {parameters}."
    columns = [
        "Detector",
        "Test set",
        "Perturbation",
        "Untouched",
        *(f"Severity {severity}" for severity in severities),
    ]
    return Sheet(f"Robustness, {level} level", note, columns, lines)


def write_tables(rows: Sequence[dict], out: Path) -> list[Path]:
    """Write robustness.csv and, for each level, .md, .tex, .html, .png and .pdf; return their paths."""
    written = [write_csv(rows, FIELDS, out / "robustness.csv")]
    for level in ("frame", "video"):
        written += write_sheet(sheet(rows, level), out, f"robustness_{level}")
        written += draw(rows, out / f"robustness_{level}", level)
    return written


def _finish(rows: list[dict], folder: Path) -> None:
    """Leave table, figure and report section in the run's own folder."""
    from analysis.reporting.sections import Section, write_section

    write_csv(rows, FIELDS, folder / "robustness.csv")
    draw(rows, folder / "robustness")
    strongest = max(row["severity"] for row in rows)
    worst = sorted(
        (r for r in rows if r["level"] == "frame" and r["severity"] in (0, strongest)),
        key=lambda r: (r["dataset"], r["auc"]),
    )
    section = Section(
        "Robustness",
        "Frame AUC under perturbations of the face crops at the detector's input resolution, severities 1 to 5 (0: untouched); "
        "bands are 95 % intervals over videos. The table gives the strongest severity.",
        ["robustness.png"],
        ["Frame AUC over severity"],
        ["Test set", "Perturbation", "Strongest", "Frame AUC", "95 % interval"],
        [
            [
                r["dataset"],
                kind_title(r["kind"]),
                f"{r['parameter']} {r['value']}".strip() or "–",
                f"{r['auc']:.3f}",
                f"{r['low']:.3f}–{r['high']:.3f}",
            ]
            for r in worst
        ],
    )
    write_section(folder, section)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="run directories with checkpoints")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="a name per run")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="default: each run's test_dataset")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=KINDS,
        default=list(KINDS),
        metavar="KIND",
        help=f"default: all of {', '.join(KINDS)}",
    )
    parser.add_argument(
        "--severities",
        nargs="+",
        type=int,
        choices=range(1, 6),
        default=[1, 2, 3, 4, 5],
        metavar="1-5",
        help="default: all",
    )
    parser.add_argument("--out", metavar="DIR", help="where the common table and figure go (default: the first run's)")
    parser.add_argument("--seed", type=whole(0, MOST_SEED), default=0, help="of noise and occlusion (default 0)")
    from prediction.trained import add_model_arguments

    add_model_arguments(parser)
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    from analysis.report import refresh_reports
    from analysis.reporting.sections import folder_of
    from common.progress import Progress
    from common.rundir import open_run, unique_names
    from prediction.trained import load_trained, videos

    names = unique_names([open_run(path) for path in arguments.runs], arguments.names)
    wanted = conditions(arguments.kinds, arguments.severities)
    everything: list[dict] = []
    for name, run_dir in zip(names, arguments.runs):
        trained = load_trained(run_dir, arguments.set, arguments.device)
        folder, key = folder_of(trained.path, "robustness"), journal_key(trained.fingerprint(), arguments.seed)
        rows: list[dict] = []
        for dataset in arguments.datasets or trained.config.test_dataset:
            loader = trained.loader("test", dataset)
            if not all(loader.index.label_counts()):
                print(f"left out, because it holds one class only and has no AUC: {dataset}")
                continue
            source = Progress(videos(loader), f"{name} on {dataset}, videos", len(loader.index))
            entries = measure(
                trained.detector,
                source,
                folder / f"{dataset}-{key}.jsonl",
                wanted,
                seed=arguments.seed,
                batch_size=trained.config.test_batchSize,
            )
            rows += summarise(entries, wanted, name, dataset, trained.config.manualSeed)
        if not rows:
            raise DataError(
                f"{run_dir}: no test set holds both classes, and robustness is told by AUC; name one with --datasets"
            )
        _finish(rows, folder)
        everything += rows
    out = Path(arguments.out) if arguments.out else folder_of(Path(arguments.runs[0]), "robustness")
    for path in write_tables(everything, out):
        print(path)
    refresh_reports([Path(path) for path in arguments.runs])
    return 0


if __name__ == "__main__":
    run(main)
