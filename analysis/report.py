"""Write one self-contained report.html for a run directory.

python analysis/report.py logs/clip_ln/2026-01-01-12-00-00
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.cli import add_common, run
from common.rundir import RunDir, open_run
from common.standing import FEW, WORDS, is_few, standing
from common.wording import about_training, remarks, with_mark

TEMPLATES = Path(__file__).parent / "reporting" / "templates"
LEVELS = ("frame", "video")
TITLES = {"auc": "AUC", "eer": "EER", "ap": "AP", "acc": "ACC", "acc_real": "ACC real", "acc_fake": "ACC fake"}


def write_report(run_dir: str | Path) -> Path:
    """Write `<run_dir>/report.html` from what the run left there, and return its path.

    The page needs no other file. Its first line is the run's `data_note` on the training data, where it has one. It shows what
    was run, all figures with 95 % intervals, ROC and DET curves, score histograms, example faces with the method's maps,
    training curves, and a section for each analysis tool that has been used on the run.

    Raises:
        DataError: the run has no results, or a file of it cannot be read.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from analysis.reporting import charts
    from analysis.reporting.faces import example_groups
    from common.io import atomic_write
    from common.style import map_title

    source = open_run(run_dir)
    examples = [entry for name in source.datasets if (entry := example_groups(source.of(name).folder, name))]
    maps = sorted({group["map"] for entry in examples for group in entry["groups"]} - {"image"})
    page = (
        Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
        .get_template("report.html.j2")
        .render(
            title=f"{source.detector}: deepfake detection report",
            subtitle=_subtitle(source),
            data_note=about_training(source.data_note),
            tiles=_tiles(source.datasets),
            facts=_facts(source),
            config=source.config_text(),
            interval_note=_interval_note(source.datasets),
            tables=[_table(source.datasets, level) for level in LEVELS] + _by_manipulation(source),
            curves=charts.curve_charts(source),
            examples=examples,
            maps=", ".join(map_title(name) for name in maps),
            training=charts.training_charts(source.history()),
            sections=charts.section_charts(source.path),
        )
    )
    atomic_write(source.report, page)
    return source.report


def refresh_reports(run_dirs: Sequence[Path]) -> None:
    """Write the reports of these runs again, where they have results; say where they are."""
    for run_dir in dict.fromkeys(run_dirs):
        if RunDir(run_dir).results_file.exists():
            print(f"report: {write_report(Path(run_dir))}")


def figure_title(key: str) -> str:
    """Return a figure's heading: `tnr_at_tpr95` is `TNR at 95 % TPR`."""
    return f"TNR at {key.removeprefix('tnr_at_tpr')} % TPR" if key.startswith("tnr_at_tpr") else TITLES.get(key, key)


def _cell(figure: dict, few: bool = False) -> dict[str, str]:
    """Return a figure and beside it, small, its interval; of few videos the other way round."""
    if figure.get("value") is None:
        return {"text": "–", "small": ""}
    value = f"{figure['value']:.3f}"
    if figure.get("low") is None:
        return {"text": value, "small": ""}
    # A dash between numbers of which one has a minus would be read as another.
    interval = f"{figure['low']:.3f}{' to ' if figure['low'] < 0 else '–'}{figure['high']:.3f}"
    return {"text": interval, "small": value} if few else {"text": value, "small": interval}


def _subtitle(source: Any) -> str:
    trained = source.summary.get("train_dataset")
    trained = ", ".join(trained) if isinstance(trained, list) else trained
    tested = ", ".join(source.datasets)
    return f"Trained on {trained}; tested on {tested}." if trained else f"Tested on {tested}."


def _tiles(datasets: dict[str, dict]) -> list[dict[str, str]]:
    tiles = []
    for name, metrics in datasets.items():
        if "one_class" in metrics:
            tiles.append(_one_class_tile(name, metrics))
            continue
        auc, video, stands = metrics["frame"]["auc"], metrics["video"]["auc"]["value"], standing(metrics)
        value, interval = f"AUC {auc['value']:.2f}", ""
        if auc.get("low") is not None:
            span = f"{auc['low']:.2f}–{auc['high']:.2f}"
            value, interval = (f"AUC {span}", f"95 % interval, around {auc['value']:.2f}") if is_few(metrics) else (
                value, f"95 % interval {span}"
            )  # fmt: skip
        words = [interval, f"frames; videos {video:.2f}", f"{stands.cell} videos, {stands.people}"]
        tiles.append({"name": name, "value": value, "note": " · ".join(filter(None, words))})
    return tiles


def _one_class_tile(name: str, metrics: dict) -> dict[str, str]:
    """Return the tile of a set of one class, which has no AUC to show."""
    about = metrics["one_class"]
    key, title = ("recall", "recall") if about["class"] == "fake" else ("false_alarm_rate", "false alarms")
    note = (
        f"{about['class']}s only, no AUC: {title} at {about['threshold']:g}, frames · videos {about['video'][key]:.3f}"
    )
    return {"name": name, "value": f"{about['frame'][key]:.3f}", "note": note}


def _facts(source: Any) -> list[tuple[str, str]]:
    summary = source.summary
    selection = summary.get("selection") or {}
    facts = [("Detector", source.detector), ("Weights", summary.get("weights"))]
    facts.append(("Checkpoint chosen by", selection.get("note")))
    if selection.get("value") is not None:
        facts.append(("Validation figure", f"{selection.get('metric', 'figure')} {selection['value']:.4f}"))
    facts += [
        (name.replace("_", " ").capitalize(), value) for name, value in (summary.get("environment") or {}).items()
    ]
    facts.append(("Run directory", source.path.resolve().name))
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _interval_note(datasets: dict[str, dict]) -> str:
    counts = [metrics["counts"] for metrics in datasets.values()]
    text = (
        f"Small figures are 95 % intervals by bootstrap over {_drawn(counts)}: how far a figure would move with others of the "
        "same kind, not with another training run. A video's score is the mean of its frames' scores."
    )
    text += (
        f" With fewer than {FEW} videos of a class the interval stands first. Expected are the videos that the test set should "
        "have, as far as its index tells; those without a score are left out or count with a coin's, as it stands there."
    )
    fewest = min((n for c in counts for n in (c["videos_real"], c["videos_fake"]) if n), default=0)
    if fewest < 20:
        text += f" With only {fewest} video{'s' * (fewest != 1)} in the smallest class, these figures prove little."
    return " ".join([text, *remarks(datasets)])


def _drawn(counts: list[dict]) -> str:
    """Return what the intervals are drawn over."""
    known = sum("people" in c for c in counts)
    some = "people where they are known, else over videos"
    return some if 0 < known < len(counts) else "people" if known else "videos"


def _table(datasets: dict[str, dict], level: str) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for metrics in datasets.values() for key in metrics[level]))
    plural = f"{level}s"
    missing = _missing(datasets)
    silence = level == "video" and any("risk_coverage" in metrics for metrics in datasets.values())
    rows = []
    for name, metrics in datasets.items():
        counts = metrics["counts"]
        cells: list[Any] = [name, f"{counts[f'{plural}_real']} / {counts[f'{plural}_fake']}"]
        cells += [standing(metrics).cell, str(counts.get("people") or "–")]
        cells += [column[name] for column in missing.values()]
        cells += [_cell(metrics[level].get(key, {}), is_few(metrics)) for key in keys]
        if silence:
            cells.append(_cell(metrics.get("risk_coverage", {}).get("area", {}), is_few(metrics)))
        rows.append(cells)
    columns = ["Test set", "Real / fake", "Videos scored / expected", "People", *missing, *map(figure_title, keys)]
    columns += ["Risk–coverage area"] * silence
    return {"title": f"{level.capitalize()} level", "columns": columns, "rows": rows}


def _missing(datasets: dict[str, dict]) -> dict[str, dict[str, str]]:
    """Return a column by test set for each reason why videos have no score, and for skipped samples, where there are any."""
    columns = {
        f"Videos {word}": {d: standing(m).number(key) for d, m in datasets.items()} for key, word in WORDS.items()
    }
    columns["Skipped samples"] = {d: m["counts"].get("skipped", 0) for d, m in datasets.items()}
    return {
        title: {dataset: "–" if n is None else str(n) for dataset, n in column.items()}
        for title, column in columns.items()
        if any(column.values())
    }


def _by_manipulation(source: Any) -> list[dict[str, Any]]:
    """AUC of each kind of fake against all reals of its test set, worst first, and their mean, where a set has several kinds."""
    from training.metrics.beside import manipulations

    rows: list[list[Any]] = []
    for dataset in source.datasets:
        if not source.of(dataset).predictions.exists():
            continue
        data, few = source.predictions(dataset), is_few(source.datasets[dataset])
        scored = data.label, data.prob, data.video, data.groups().tolist()
        frame, video = (manipulations(*scored, level=level, person=data.people()) for level in LEVELS)
        if frame is None or video is None:
            continue
        of_frames = {one.name: one.auc for one in frame.groups}
        for one in video.groups:
            name = with_mark(one.name, source.summary.get("hold_out") or ())
            rows.append([dataset, name, str(one.fake), _cell(of_frames[one.name], few), _cell(one.auc, few)])
        rows.append([dataset, "mean of these", "", _cell(frame.macro, few), _cell(video.macro, few)])
        rows.append([dataset, "best less worst", "", _cell(frame.gap, few), _cell(video.gap, few)])
    columns = ["Test set", "Manipulation", "Fake videos", "Frame AUC", "Video AUC"]
    return [{"title": "By manipulation, worst first", "columns": columns, "rows": rows}] if rows else []


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run_dir", metavar="RUN_DIR", help="run directory with results/results.json")
    add_common(parser)
    arguments = parser.parse_args(argv)
    print(write_report(arguments.run_dir))
    return 0


if __name__ == "__main__":
    run(main)
