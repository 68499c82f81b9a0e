"""Do probabilities mean what they say? Reliability, expected calibration error, temperature, operating threshold.

    python analysis/calibration.py logs/clip_ln/2026-01-01-12-00-00 --tpr 0.95

Temperature and threshold are fitted on the validation split, without those of its videos that also stand in a test set, and
judged on the test sets. There is a pair for each level, since the mean of a video's frames is spread less than its frames are:
one for videos, which predict.py judges by that mean, and one for frames, by which it judges pictures. They are kept beside
their checkpoint, in checkpoints/operating_point.json, with what the threshold costs: the false alarms on validation.

With them go two limits, between which predict.py answers `cannot say`: of data like validation at most --alpha of the reals are
called fake, and at most --alpha of the fakes real. Fewer than 1/alpha - 1 videos of a class cannot promise that, and the
limit is then one that no score passes.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.cli import run
from common.errors import ConfigError, DataError
from training.metrics.decision import called_fake

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from common.predictions import Predictions
    from common.rundir import RunDir
    from prediction.trained import Trained

LIMIT = 1e-7  # probabilities are kept this far from 0 and 1 before taking logits


def logit(prob: ArrayLike) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), with p kept off 0 and 1."""
    p = np.clip(np.asarray(prob, np.float64), LIMIT, 1 - LIMIT)
    return np.log(p) - np.log1p(-p)


def apply_temperature(prob: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Return probabilities whose logits are divided by `temperature`; the order of samples stays."""
    from scipy.special import expit

    return expit(logit(prob) / temperature)


def negative_log_likelihood(label: ArrayLike, prob: ArrayLike) -> float:
    """Return the mean cross-entropy in nats."""
    p = np.clip(np.asarray(prob, np.float64), LIMIT, 1 - LIMIT)
    return float(-np.mean(np.where(np.asarray(label) == 1, np.log(p), np.log1p(-p))))


def fit_temperature(label: ArrayLike, prob: ArrayLike) -> float:
    """Return the temperature of least cross-entropy (Guo et al., ICML 2017), in [0.05, 50].

    Raises:
        DataError: one class only.
    """
    from scipy.optimize import minimize_scalar

    labels = np.asarray(label)
    if len(np.unique(labels)) < 2:
        raise DataError("temperature needs validation samples of both classes; add the missing one to the val split")
    found = minimize_scalar(
        lambda t: negative_log_likelihood(labels, apply_temperature(prob, float(np.exp(t)))),
        bounds=np.log([0.05, 50]),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def reliability(label: ArrayLike, prob: ArrayLike, bins: int = 15) -> dict[str, NDArray]:
    """Sort samples into bins of equal width by fake probability.

    Returns:
        Of the bins that hold samples: `confidence` (mean probability), `frequency` (share of fakes), `count`.
    """
    y, p = np.asarray(label, np.float64), np.asarray(prob, np.float64)
    row = np.minimum((p * bins).astype(int), bins - 1)
    count = np.bincount(row, minlength=bins)
    having = count > 0
    return {
        "confidence": np.bincount(row, p, bins)[having] / count[having],
        "frequency": np.bincount(row, y, bins)[having] / count[having],
        "count": count[having],
    }


def expected_calibration_error(label: ArrayLike, prob: ArrayLike, bins: int = 15) -> float:
    """Return the mean distance between probability and frequency over bins, weighted by their samples (binary ECE)."""
    table = reliability(label, prob, bins)
    return float(np.average(np.abs(table["confidence"] - table["frequency"]), weights=table["count"]))


def threshold_at_tpr(label: ArrayLike, prob: ArrayLike, tpr: float) -> float:
    """Return the lowest score that must be called fake to find at least `tpr` of the fakes."""
    if not 0 < tpr < 1:
        raise ConfigError(f"--tpr must lie between 0 and 1 (0.95, say), not {tpr}")
    fakes = np.sort(np.asarray(prob, np.float64)[np.asarray(label) == 1])[::-1]
    if len(fakes) == 0:
        raise DataError("a threshold at a true-positive rate needs fake validation samples")
    return float(fakes[int(np.ceil(tpr * len(fakes) - 1e-9)) - 1])


def operating_threshold(label: ArrayLike, prob: ArrayLike, tpr: float) -> float:
    """Return a threshold that finds at least `tpr` of the fakes with the fewest false alarms.

    What lies above it is called fake (`training.metrics.decision`), so it lies between the lowest score to be found and the next
    lower one, in the middle, where another machine's last digits do not matter.
    """
    found = threshold_at_tpr(label, prob, tpr)
    scores = np.asarray(prob, np.float64)
    below = float(max(scores[scores < found], default=0.0))
    middle = (below + found) / 2
    return middle if middle < found else below


def fit(level: str, val: Predictions, tpr: float, alpha: float = 0.1) -> dict[str, Any]:
    """Return a level's temperature, threshold and limits, and what shares of validation's fakes and reals it calls fake."""
    from prediction.operating_point import limits_as_json
    from training.metrics.selective import conformal_limits

    temperature, threshold = fit_temperature(val.label, val.prob), operating_threshold(val.label, val.prob, tpr)
    rates = judge(val.label, val.prob, temperature, threshold)
    counts = {"fakes": int((val.label == 1).sum()), "reals": int((val.label == 0).sum())}
    validation = {"found": rates["tpr"], "false_alarms": rates["fpr"], **counts}
    limits = conformal_limits(val.label, val.prob, alpha, val.video)
    return {
        "level": level,
        "temperature": temperature,
        "threshold": threshold,
        "limits": limits_as_json(limits),
        "validation": validation,
    }


def too_few(val: Predictions, alpha: float) -> str:
    """Return in one sentence which class has too few videos for limits at `alpha`; empty where both have enough."""
    needed = math.ceil(1 / alpha - 1 - 1e-9)
    rows = val.by_video()
    held = {"real": int((rows.label == 0).sum()), "fake": int((rows.label == 1).sum())}
    if not (short := [f"{count} {name}" for name, count in held.items() if count < needed]):
        return ""
    never = {"real": "fake", "fake": "real"}
    silent = " or ".join(never[name.split()[1]] for name in short)
    return (
        f"Validation has {' and '.join(short)} videos, and --alpha {alpha:g} needs {needed} of each class: nothing is called "
        f"{silent}; add validation videos, or raise --alpha"
    )


def silence(data: Predictions, part: dict[str, Any]) -> dict[str, float | None]:
    """Return what a level's limits do on a set: coverage, and the errors of `training.metrics.selective.Silence`."""
    from dataclasses import asdict

    from prediction.operating_point import limits_from_json
    from training.metrics.selective import measure_silence

    return asdict(measure_silence(data.label, data.prob, limits_from_json(part["limits"])))


def judge(label: ArrayLike, prob: ArrayLike, temperature: float, threshold: float) -> dict[str, float | None]:
    """Return calibration before and after temperature, and the rates at the (uncalibrated) threshold.

    The rate of a class without samples is None.
    """
    y, p = np.asarray(label), np.asarray(prob, np.float64)
    warm = apply_temperature(p, temperature)
    flagged = called_fake(p, threshold)
    return {
        "ece": expected_calibration_error(y, p),
        "ece_calibrated": expected_calibration_error(y, warm),
        "nll": negative_log_likelihood(y, p),
        "nll_calibrated": negative_log_likelihood(y, warm),
        "brier": float(np.mean((p - y) ** 2)),
        "brier_calibrated": float(np.mean((warm - y) ** 2)),
        "tpr": float(flagged[y == 1].mean()) if (y == 1).any() else None,
        "fpr": float(flagged[y == 0].mean()) if (y == 0).any() else None,
    }


def frequency_intervals(
    label: ArrayLike, prob: ArrayLike, video: ArrayLike, rng: np.random.Generator, bins: int = 15, resamples: int = 500
) -> NDArray[np.float64]:
    """Return the 95 % interval `(2, bins held)` of each bin's share of fakes, by bootstrap over videos.

    The frames of a video are no independent samples. Resamples that leave a bin empty say nothing about it.
    """
    row = np.minimum((np.asarray(prob, np.float64) * bins).astype(int), bins - 1)
    names, code = np.unique(np.asarray(video), return_inverse=True)
    count, fakes = np.zeros((2, len(names), bins))
    np.add.at(count, (code, row), 1)
    np.add.at(fakes, (code, row), np.asarray(label, np.float64))
    held = count.any(axis=0)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)  # (resamples, videos)
    total = times @ count[:, held]
    share = np.divide(times @ fakes[:, held], total, out=np.full(total.shape, np.nan), where=total > 0)
    return np.nanquantile(share, [0.025, 0.975], axis=0)


def draw_reliability(axes: Axes, data: Predictions, temperature: float, title: str, seed: int = 0) -> None:
    """Draw the share of fakes over the probability, before and after temperature; bars are `frequency_intervals`.

    The area of a point shows how many samples its bin has.
    """
    from common import style

    axes.plot([0, 1], [0, 1], color=style.NEUTRAL, linewidth=0.8, linestyle=":")
    for number, (name, p) in enumerate(
        (("as it is", data.prob), (f"T = {temperature:.2f}", apply_temperature(data.prob, temperature)))
    ):
        table = reliability(data.label, p)
        colour, error = style.PALETTE[number], expected_calibration_error(data.label, p)
        bars = frequency_intervals(data.label, p, data.video, np.random.default_rng(seed))
        axes.vlines(table["confidence"], *bars, color=colour, linewidth=1, alpha=0.5)
        size = 8 + 160 * table["count"] / table["count"].sum()
        look = {"s": size, "color": colour, "marker": style.marker(number), "linewidths": 0, "zorder": 3, "alpha": 0.85}
        axes.scatter(table["confidence"], table["frequency"], **look)
        # The legend's mark has a size of its own, whatever the first bin holds.
        axes.plot([], [], style.marker(number), color=colour, markersize=5, label=f"{name} (ECE {error:.3f})")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="Fake probability", ylabel="Share of fakes", title=title)
    axes.set_aspect("equal")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, handletextpad=0.1, columnspacing=1)


def validation_predictions(trained: Trained) -> Predictions:
    """Return the validation split's predictions of this checkpoint: those of an earlier call, or new ones, which are kept.

    An earlier call's are taken where they are of the same videos, and can be read.
    """
    from analysis.reporting.sections import folder_of
    from common.io import atomic_write
    from common.predictions import HEADER, read_predictions
    from common.progress import Progress
    from prediction.trained import predict_images, videos

    kept = folder_of(trained.path, "calibration") / f"val_predictions-{trained.fingerprint()[:12]}.csv"
    loader = trained.loader("val", trained.config.val_dataset or trained.config.train_dataset)
    if kept.exists():
        with suppress(DataError):  # written by a version that did not quote names
            earlier = read_predictions(kept)
            if set(earlier.video.tolist()) == set(loader.index.video_ids()):
                return earlier
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for video in Progress(videos(loader), "validation videos", len(loader.index)):
        prob = predict_images(trained.detector, video.image, trained.config.test_batchSize)
        writer.writerows(
            (video.name, frame, video.label, video.method, f"{p:.9g}") for frame, p in zip(video.frame, prob)
        )
    atomic_write(kept, text.getvalue())
    return read_predictions(kept)


def without_tested(val: Predictions, tests: Iterable[Predictions]) -> Predictions:
    """Return the validation rows whose videos stand in none of the test sets, under whatever dataset name or compression.

    Raises:
        DataError: no row is left.
    """
    tested = {key for test in tests for key in _same_videos(test)}
    kept = val.where(np.array([key not in tested for key in _same_videos(val)], bool))
    if not len(kept.prob):
        raise DataError(
            "every validation video also stands in a test set, and fitting on the test would be no calibration; "
            "name other validation videos with --set val_dataset=[...]"
        )
    return kept


def _same_videos(rows: Predictions) -> list[str]:
    """Return the key of each row's video, as `Index.same_video_keys` gives it, out of its unique name."""
    from common.datasets import same_video_key

    parts = [name.split("/") for name in rows.video.tolist()]
    return [
        same_video_key(dataset, label, bool(fake), own)
        for (dataset, label, *_, own), fake in zip(parts, rows.label.tolist(), strict=True)
    ]


def _write(run_dir: Path, point: dict, judged: dict[str, dict], data: dict[str, Predictions]) -> None:
    from analysis.reporting.sections import Section, folder_of, write_section
    from common import style
    from common.io import write_json

    folder = folder_of(run_dir, "calibration")
    write_json(folder / "calibration.json", {"operating_point": point, "datasets": judged})
    columns = min(2, len(data))
    rows = -(-len(data) // columns)
    with style.figure(3.6 * columns, 4.0 * rows, rows, columns, squeeze=False) as (drawing, grid):
        for axes, (name, predictions) in zip(grid.flat, data.items()):
            draw_reliability(axes, predictions, point["frame"]["temperature"], name)
        for axes in grid.flat[len(data) :]:
            axes.set_axis_off()
        style.save(drawing, folder / "reliability")
    keys = ("ece", "ece_calibrated", "nll", "nll_calibrated", "tpr", "fpr")
    lines = [
        [name, level, *("–" if value is None else f"{value:.3f}" for value in _cells(row, keys))]
        for name, found in judged.items()
        for level, row in (("video", found), ("frame", found["frame"]))
    ]
    text = (
        f"Fitted on the {point['fitted_on']} (left out: {point['left_out']}), for {point['target_tpr']:.0%} of fakes found. "
        + " ".join(f"{describe(part)}." for part in (point, point["frame"]))
        + " The table says what they give. In the figure, of frames, bars are 95 % intervals by bootstrap over videos."
    )
    titles = ["Test set", "Level", "ECE", "ECE with T", "NLL", "NLL with T", "TPR at threshold", "FPR at threshold"]
    titles += ["Gets a verdict", "Of it wrong"]
    write_section(
        folder,
        Section("Calibration", text, ["reliability.png"], ["Share of fakes over fake probability"], titles, lines),
    )


def _cells(row: dict, keys: Iterable[str]) -> list[float | None]:
    return [*(row[key] for key in keys), row["cannot_say"]["coverage"], row["cannot_say"]["error"]]


def describe(point: dict) -> str:
    """Return a level's point in words, with what its threshold costs."""
    from prediction.operating_point import describe_limits, limits_from_json

    cost = point["validation"]
    return (
        f"{point['level'].capitalize()} level: temperature {point['temperature']:.4f}, threshold {point['threshold']:.6f}; on "
        f"validation it finds {cost['found']:.1%} of {cost['fakes']} fakes and calls {cost['false_alarms']:.1%} of "
        f"{cost['reals']} reals fake; limits: {describe_limits(limits_from_json(point['limits']))}"
    )


def _parser() -> argparse.ArgumentParser:
    from analysis.reporting.tool import tool_parser

    parser = tool_parser(__doc__, "run directory with results")
    parser.add_argument(
        "--val_predictions", metavar="CSV", help="validation predictions (default: computed once and kept)"
    )
    parser.add_argument(
        "--tpr", type=float, default=0.95, help="share of fakes that the threshold must find (default 0.95)"
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=0.1,
        help="at most this share of reals, and of fakes, is called wrongly by the limits of `cannot say` (default 0.1)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    from analysis.report import refresh_reports
    from common.io import write_json
    from common.predictions import read_predictions
    from common.rundir import open_run

    if not 0 < arguments.alpha < 1:
        raise ConfigError(f"--alpha must lie between 0 and 1 (0.1, say), not {arguments.alpha:g}")
    source = open_run(arguments.run_dir)
    tests = {name: source.predictions(name) for name in source.datasets}
    point: dict[str, Any] = {}
    if arguments.val_predictions:
        val = read_predictions(Path(arguments.val_predictions))
    else:
        from prediction.trained import load_trained

        trained = load_trained(source.path, arguments.set, arguments.device)
        _check_tested(source, trained)
        val = validation_predictions(trained)
        point = {"checkpoint": trained.weights.name, "fingerprint": trained.fingerprint()}
    left = len(np.unique(val.video))
    val = without_tested(val, tests.values())
    left -= len(np.unique(val.video))
    levels = {
        level: fit(level, rows, arguments.tpr, arguments.alpha)
        for level, rows in (("video", val.by_video()), ("frame", val))
    }
    point |= levels["video"] | {
        "target_tpr": arguments.tpr,
        "frame": levels["frame"],
        "fitted_on": f"validation split, {len(np.unique(val.video))} videos",
        "left_out": f"{left} validation videos that also stand in a test set",
    }
    data = {"validation": val} | tests
    judged = {name: _judge_levels(predictions, levels) for name, predictions in data.items()}
    _write(source.path, point, judged, data)
    write_json(source.operating_point, point)
    for part in levels.values():
        print(describe(part))
    if short := too_few(val, arguments.alpha):
        print(short)
    for name, row in judged.items():
        tpr, fpr = ("–" if row[key] is None else f"{row[key]:.3f}" for key in ("tpr", "fpr"))
        print(f"{name}, videos: ECE {row['ece']:.4f} → {row['ece_calibrated']:.4f}, TPR {tpr}, FPR {fpr}")
        said = row["cannot_say"]
        wrong = "" if said["error"] is None else f", of which {said['error']:.1%} are wrong"
        print(f"{name}, videos: {said['coverage']:.1%} get a verdict by the limits{wrong}")
    refresh_reports([source.path])
    return 0


def _judge_levels(data: Predictions, levels: dict[str, dict]) -> dict[str, Any]:
    """Return `judge` of the videos, and under `frame` that of the frames, each by its own level's point."""
    video, frame = (
        {"level": level}
        | judge(rows.label, rows.prob, levels[level]["temperature"], levels[level]["threshold"])
        | {"cannot_say": silence(rows, levels[level])}
        for level, rows in (("video", data.by_video()), ("frame", data))
    )
    return video | {"frame": frame}


def _check_tested(source: RunDir, trained: Trained) -> None:
    """Refuse to judge test results of other weights by the thresholds of these."""
    tested = source.summary.get("weights")
    if isinstance(tested, str) and (source.path / tested).resolve() != trained.weights.resolve():
        raise DataError(
            f"the results of {source.path} are of {tested}, and {trained.weights.name} is to be calibrated; "
            f"run training/test.py --detector_path {source.path} first"
        )


if __name__ == "__main__":
    run(main)
