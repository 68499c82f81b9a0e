"""Figures, intervals, groups and comparisons of anybody's scores, from one CSV; no torch, no OpenCV, no checkpoint.

    python analysis/score.py --scores mine.csv --groups generator
    python analysis/score.py --scores predictions.csv.gz --where modality=video --groups generator --limits_from split=val

The file has a line per picture, frame or video: `label` (0 or real, 1 or fake), `video` (frames of one share a name) and
`prob`, or a column `prob_<detector>` for each of several; other names by flags. Lines without a detector's score are left out
of its figures, and counted. Writes scores.json, the tables as .csv, .md, .tex and .html, and scores.html into --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.reporting.score_file import Columns, ScoreFile, read_scores
from analysis.reporting.score_tables import (
    GROUP_FIELDS,
    PAIR_FIELDS,
    SHOWN_GROUPS,
    figures_sheet,
    group_lines,
    groups_sheet,
    pairs_sheet,
)
from analysis.reporting.sheet import to_markdown, write_csv, write_sheet
from common.cli import MOST_SEED, add_common, run, whole
from common.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.metrics.groups import GroupReport
    from training.metrics.selective import Limits


def measure(
    data: ScoreFile,
    threshold: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
    limits: dict[str, Limits] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the figures of every detector.

    Returns:
        By detector what `training.metrics.evaluate` returns; `scored` and `missing` (lines); of sets with both classes also
        `risk_coverage` (area, at `threshold`, of videos), and with `limits` `cannot_say` (the limits, coverage and errors).
    """
    from training.metrics import evaluate
    from training.metrics.selective import measure_silence, risk_coverage

    found = {}
    for name in data.scores:
        part, prob = _scored(data, name)
        figures = evaluate(
            part.label,
            prob,
            part.video,
            bootstrap=resamples,
            seed=seed,
            dataset=name,
            one_class=True,
            person=part.person,
        )
        figures |= {"scored": len(prob), "missing": len(data.label) - len(prob)}
        label, mean = _videos(part, prob)
        figures["risk_coverage"] = {"area": risk_coverage(label, mean, threshold)[2], "threshold": threshold}
        if limits:
            figures["cannot_say"] = asdict(limits[name]) | asdict(measure_silence(label, mean, limits[name]))
        found[name] = figures
    return found


def limits_of(data: ScoreFile, alpha: float) -> dict[str, Limits]:
    """Return each detector's limits of silence by these held-out scores, one a video."""
    from training.metrics.selective import conformal_limits

    found = {}
    for name in data.scores:
        part, prob = _scored(data, name)
        found[name] = conformal_limits(*_videos(part, prob), alpha)
    return found


def group_rows(
    data: ScoreFile, threshold: float = 0.5, resamples: int = 1000, seed: int = 0
) -> dict[tuple[str, str], GroupReport]:
    """Return the groups of every detector and column, of videos; what has one class only, or no group, is left out."""
    from training.metrics.groups import by_group

    found = {}
    for name in data.scores:
        part, prob = _scored(data, name)
        for column, group in part.groups.items():
            if 0 < part.label.mean() < 1 and any(group):
                found[name, column] = by_group(
                    part.label,
                    prob,
                    part.video,
                    group,
                    threshold=threshold,
                    person=part.person,
                    resamples=resamples,
                    seed=seed,
                )
    return found


def compare(data: ScoreFile) -> list[dict[str, Any]]:
    """Compare the AUC of every two detectors on the videos that both scored: DeLong's test, by people where they are known.

    `p_holm` is corrected for the number of pairs. Pairs without a common real and fake are left out.
    """
    import numpy as np

    from training.metrics import delong
    from training.metrics.significance import holm

    rows: list[dict[str, Any]] = []
    for a, b in combinations(data.scores, 2):
        part = data.where(~np.isnan(data.scores[a]) & ~np.isnan(data.scores[b]))
        if not 0 < part.label.mean() < 1:  # NaN, too, of no common line
            continue
        label, of_a = _videos(part, part.scores[a])
        _, of_b = _videos(part, part.scores[b])
        test = delong(label, of_a, of_b, _people(part))
        values = (a, b, len(label), test.a, test.b, test.difference, test.low, test.high, test.p)
        rows.append(dict(zip(PAIR_FIELDS, values)))
    corrected = holm([row["p"] for row in rows]).tolist()
    return [{**row, "p_holm": p} for row, p in zip(rows, corrected)]


def _scored(data: ScoreFile, name: str) -> tuple[ScoreFile, NDArray[np.float64]]:
    import numpy as np

    there = ~np.isnan(data.scores[name])
    if not there.any():
        raise DataError(
            f"`{name}` has no score on any of the {len(there)} lines; leave it out by --score, or choose by --where"
        )
    part = data.where(there)
    return part, part.scores[name]


def _videos(data: ScoreFile, prob: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each video's label and mean probability, in order of appearance."""
    from training.metrics.samples import gather

    videos = gather(data.label, prob, data.video, one_class=True).by_video()
    return videos.label.astype("int64"), videos.prob


def _people(data: ScoreFile) -> list[Any] | None:
    """Return each video's person, or itself where nobody is known; None without people."""
    if data.person is None:
        return None
    shown = dict(zip(data.video, data.person))
    return [("video", name) if who is None else ("person", who) for name, who in shown.items()]


def write_all(
    data: ScoreFile,
    metrics: dict[str, dict[str, Any]],
    groups: dict[tuple[str, str], GroupReport],
    pairs: Sequence[dict[str, Any]],
    out: Path,
    facts: Sequence[tuple[str, str]],
) -> list[Path]:
    """Write scores.json, the tables and scores.html; return their paths."""
    from analysis.reporting.score_page import write_page
    from common.io import write_json

    out.mkdir(parents=True, exist_ok=True)
    sheets = {f"figures_{level}": figures_sheet(metrics, level) for level in ("frame", "video")}
    write_json(out / "scores.json", metrics)
    written = [out / "scores.json"]
    sections = []
    if groups:
        written.append(write_csv(group_lines(groups), GROUP_FIELDS, out / "groups.csv"))
        sheets["groups"] = groups_sheet(groups)
        sections.append(groups_sheet(groups, SHOWN_GROUPS))
    if pairs:
        written.append(write_csv(pairs, PAIR_FIELDS, out / "comparison.csv"))
        sheets["comparison"] = pairs_sheet(pairs)
        sections.append(sheets["comparison"])
    for stem, sheet in sheets.items():
        written += write_sheet(sheet, out, stem)
    levels = [sheets["figures_frame"], sheets["figures_video"]]
    if len(set(data.video)) == len(data.video):  # a line per video: both tables would say the same
        levels = levels[1:]
    return [*written, write_page(data, metrics, levels, sections, out / "scores.html", facts)]


def _conditions(given: Sequence[str], flag: str) -> dict[str, str]:
    if bad := [text for text in given if "=" not in text]:
        raise ConfigError(f"{flag} takes COLUMN=VALUE, not {bad[0]}")
    return dict(text.split("=", 1) for text in given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scores", required=True, metavar="FILE", help="CSV with a heading line, also .csv.gz")
    parser.add_argument("--score", nargs="+", metavar="COLUMN", help="columns of scores (default: prob, or all prob_…)")
    parser.add_argument("--label", metavar="COLUMN", help="column of labels (default: label)")
    parser.add_argument("--video", metavar="COLUMN", help="column of videos' names (default: video, id, file …)")
    parser.add_argument(
        "--person", metavar="COLUMN", help="column of people (default: person, identity … where there is one)"
    )
    parser.add_argument("--groups", nargs="+", default=[], metavar="COLUMN", help="columns whose values are groups")
    parser.add_argument("--where", nargs="+", default=[], metavar="COLUMN=VALUE", help="only these lines")
    parser.add_argument("--limits_from", nargs="+", default=[], metavar="COLUMN=VALUE",
                        help="held-out lines that set the limits of `cannot say`; they count in no figure")  # fmt: skip
    parser.add_argument(
        "--alpha", type=float, default=0.05, metavar="SHARE", help="of wrong verdicts in a class (0.05)"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, metavar="PROB", help="above it a score is called fake (0.5)"
    )
    parser.add_argument("--logits", action="store_true", help="scores are log-odds, not probabilities")
    parser.add_argument("--compare", action="store_true", help="test every two detectors for a difference")
    parser.add_argument(
        "--resamples", type=whole(0, 100_000), default=1000, metavar="N", help="of the bootstrap (1000)"
    )
    parser.add_argument("--seed", type=whole(0, MOST_SEED), default=0, metavar="N", help="of the bootstrap (0)")
    parser.add_argument("--out", metavar="DIR", help="default: logs/scores/<the file's name>")
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    path = Path(arguments.scores)
    columns = Columns(arguments.label, arguments.video, arguments.person, arguments.score, tuple(arguments.groups))
    data = read_scores(path, columns, arguments.logits)
    if arguments.where:
        data = data.where(data.matching(_conditions(arguments.where, "--where")))
    if not arguments.score:  # of many columns, those that say something of the chosen lines
        data = _with_scores(data)
    limits = None
    if arguments.limits_from:
        held_out = data.matching(_conditions(arguments.limits_from, "--limits_from"))
        limits = limits_of(data.where(held_out), arguments.alpha)
        data = data.where(~held_out)
    if not len(data.label):
        raise DataError("no line is left to measure; loosen --where and --limits_from")
    settings = (arguments.threshold, arguments.resamples, arguments.seed)
    metrics = measure(data, *settings, limits)
    groups = group_rows(data, *settings)
    pairs = compare(data) if arguments.compare else []
    stem = path.name.removesuffix(".gz").removesuffix(".csv")
    facts = [("File", path.name), ("Lines", str(len(data.label))), ("Only", " ".join(arguments.where) or "all lines")]
    out = Path(arguments.out or Path("logs") / "scores" / stem)
    written = write_all(data, metrics, groups, pairs, out, facts)
    print("\n" + to_markdown(figures_sheet(metrics, "video")))
    if groups:
        print(to_markdown(groups_sheet(groups, SHOWN_GROUPS)))
    for name in written:
        print(name)
    return 0


def _with_scores(data: ScoreFile) -> ScoreFile:
    """Leave out detectors that scored none of the lines, and say so."""
    import numpy as np

    empty = [name for name, values in data.scores.items() if np.isnan(values).all()]
    if len(empty) == len(data.scores):
        raise DataError(f"none of {', '.join(empty)} has a score on these lines")
    if empty:
        print(f"without a score on these lines, and left out: {', '.join(empty)}")
    kept = {name: values for name, values in data.scores.items() if name not in empty}
    return ScoreFile(data.label, data.video, data.person, kept, data.groups, data.rows)


if __name__ == "__main__":
    run(main)
