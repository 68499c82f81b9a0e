"""AUC under ten perturbations in five severities, of one detector or of several side by side.

    python analysis/robustness.py logs/clip_ln/A logs/xception/B --datasets Celeb-DF-v2 --out figures/robustness

Every frame is read once for all perturbations, at the detector's input resolution; H.264 codes the frames of a video as one
stream. What is done is kept video by video in <run>/analysis/robustness/<dataset>.jsonl, and a second call goes on from there.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.perturbations import KINDS, SEVERITIES, perturb
from training.cli import add_common, run
from training.errors import DataError

if TYPE_CHECKING:
    from analysis.model import Video

CLEAN = "clean"
FIELDS = ("detector", "dataset", "level", "kind", "severity", "parameter", "value", "auc", "low", "high")
RESAMPLES = 500


def conditions(kinds: Sequence[str], severities: Sequence[int]) -> list[tuple[str, int]]:
    """Return the untouched condition and every perturbation asked for."""
    return [(CLEAN, 0), *((kind, severity) for kind in kinds for severity in severities)]


def read_done(path: Path, wanted: Sequence[tuple[str, int]]) -> dict[str, dict]:
    """Return the videos of a journal that have every condition; a last line cut short by a crash is left out."""
    done: dict[str, dict] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise DataError(
                    f"{path}, line {number} is damaged ({error.msg}); delete the file to start anew"
                ) from error
            continue
        if all(f"{kind}-{severity}" in entry["prob"] for kind, severity in wanted):
            done[entry["video"]] = entry
    return done


def score_video(detector: Any, video: Video, wanted: Sequence[tuple[str, int]], seed: int, batch_size: int) -> dict:
    """Return the video's fake probabilities under every condition: `{"video", "label", "prob": {"jpeg-3": [...]}}`."""
    import numpy as np

    from analysis.model import predict_images

    # (N, 3, H, W) or, for clips, (N, T, 3, H, W) → (N T, H, W, 3)
    frames = video.image.reshape(-1, *video.image.shape[-3:]).transpose(0, 2, 3, 1)
    frames = np.ascontiguousarray(frames)
    prob = {}
    for kind, severity in wanted:
        changed = frames if kind == CLEAN else perturb(frames, kind, severity, seed=seed, video=video.name)
        image = changed.transpose(0, 3, 1, 2).reshape(video.image.shape)
        found = predict_images(detector, image, batch_size)
        prob[f"{kind}-{severity}"] = [float(f"{value:.9g}") for value in found]
    return {"video": video.name, "label": video.label, "prob": prob}


def measure(
    detector: Any,
    source: Iterable[Video],
    path: Path,
    wanted: Sequence[tuple[str, int]],
    *,
    seed: int = 0,
    batch_size: int = 32,
) -> list[dict]:
    """Score every video that `path` does not hold yet, adding a line each; return the entries of all of them."""
    done = read_done(path, wanted)
    entries = []
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        # The rewritten journal ends with a whole line, so that new ones do not grow on to a cut one.
        from training.io import atomic_write

        atomic_write(path, "".join(json.dumps(entry) + "\n" for entry in done.values()))
    with open(path, "a", encoding="utf-8") as journal:
        for video in source:
            if video.name not in done:
                done[video.name] = score_video(detector, video, wanted, seed, batch_size)
                journal.write(json.dumps(done[video.name]) + "\n")
                journal.flush()
            entries.append(done[video.name])
    return entries


def summarise(entries: Sequence[dict], wanted: Sequence[tuple[str, int]], detector: str, dataset: str) -> list[dict]:
    """Return one row per condition and level: AUC with its interval over videos."""
    import numpy as np

    from training.metrics import evaluate

    rows = []
    for kind, severity in wanted:
        probs = [entry["prob"][f"{kind}-{severity}"] for entry in entries]
        lengths = [len(prob) for prob in probs]
        metrics = evaluate(
            np.repeat([entry["label"] for entry in entries], lengths),
            np.concatenate(probs),
            np.repeat(np.arange(len(entries)), lengths),
            bootstrap=RESAMPLES,
            dataset=dataset,
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

    from analysis import style

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


def write_rows(rows: Sequence[dict], path: Path) -> None:
    """Write the rows as CSV."""
    from training.io import atomic_write

    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue())


def _finish(rows: list[dict], folder: Path) -> None:
    """Leave table, figure and report section in the run's own folder."""
    from analysis.sections import Section, write_section

    write_rows(rows, folder / "robustness.csv")
    draw(rows, folder / "robustness")
    worst = sorted(
        (r for r in rows if r["level"] == "frame" and r["severity"] in (0, 5)), key=lambda r: (r["dataset"], r["auc"])
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
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "--severities", nargs="+", type=int, choices=range(1, 6), default=[1, 2, 3, 4, 5], metavar="1-5"
    )
    parser.add_argument("--out", metavar="DIR", help="where the common table and figure go (default: the first run's)")
    parser.add_argument("--seed", type=int, default=0, help="of noise and occlusion")
    from analysis.model import add_model_arguments

    add_model_arguments(parser)
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    from analysis.model import load_trained, videos
    from analysis.progress import progress
    from analysis.results import Run, unique_names
    from analysis.sections import folder_of, refresh_reports

    names = unique_names([Run(path) for path in arguments.runs], arguments.names)
    wanted = conditions(arguments.kinds, arguments.severities)
    everything: list[dict] = []
    for name, run_dir in zip(names, arguments.runs):
        trained = load_trained(run_dir, arguments.set, arguments.device)
        folder = folder_of(trained.path, "robustness")
        rows: list[dict] = []
        for dataset in arguments.datasets or trained.config.test_dataset:
            loader = trained.loader("test", dataset)
            source = progress(videos(loader), f"{name} on {dataset}, videos", len(loader.index))
            entries = measure(
                trained.detector,
                source,
                folder / f"{dataset}.jsonl",
                wanted,
                seed=arguments.seed,
                batch_size=trained.config.test_batchSize,
            )
            rows += summarise(entries, wanted, name, dataset)
        _finish(rows, folder)
        everything += rows
    out = Path(arguments.out) if arguments.out else folder_of(Path(arguments.runs[0]), "robustness")
    write_rows(everything, out / "robustness.csv")
    for level in ("frame", "video"):
        for path in draw(everything, out / f"robustness_{level}", level):
            print(path)
    refresh_reports([Path(path) for path in arguments.runs])
    return 0


if __name__ == "__main__":
    run(main)
