"""A video's scores over time: a figure, and its numbers as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prediction.predictor import Verdict

FIELDS = ("first_frame", "last_frame", "from_s", "to_s", "prob")


def write_timeline(verdict: Verdict, folder: Path, number: int = 1) -> list[Path]:
    """Write `<number>_<name>.{csv,png,pdf}` of a judged video into `folder`; return the paths.

    A frame is a dot; a clip is a bar from its first to its last frame. Time is in seconds where the file tells of every score,
    else in frames. The number keeps videos of one name from different folders apart.
    """
    from common.io import atomic_write

    stem = folder / f"{number:02d}_{Path(verdict.path).stem}"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    for score in verdict.scores:
        last, until = (score.frame, score.time) if score.last is None else (score.last, score.until)
        times = ["" if value is None else f"{value:.3f}" for value in (score.time, until)]
        writer.writerow([score.frame, last, *times, f"{score.prob:.9g}"])
    table = stem.with_name(f"{stem.name}.csv")
    table.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(table, text.getvalue())
    return [table, *_draw(verdict, stem)]


def _draw(verdict: Verdict, stem: Path) -> list[Path]:
    from common import style

    scores = verdict.scores
    timed = all(s.time is not None and (s.last is None or s.until is not None) for s in scores)
    spans = [(s.time, s.until) if timed else (s.frame, s.last) for s in scores]
    starts = [float(start or 0) for start, _ in spans]
    ends = [start if end is None else float(end) for start, (_, end) in zip(starts, spans)]
    probs = [s.prob for s in scores]
    with style.figure(6.4, 2.4) as (drawing, axes):
        colour = style.PALETTE[0]
        axes.plot([(a + b) / 2 for a, b in zip(starts, ends)], probs, color=colour, linewidth=0.8, alpha=0.5)
        if scores[0].last is None:
            axes.plot(starts, probs, ".", color=colour)
        else:
            axes.hlines(probs, starts, ends, color=colour, linewidth=3)
        if verdict.limits is None:
            axes.axhline(verdict.threshold, color=style.NEUTRAL, linewidth=0.8, linestyle=":", label="threshold")
        else:
            low, high = max(verdict.limits.low, 0), min(verdict.limits.high, 1)
            axes.axhspan(low, high, color=style.NEUTRAL, alpha=0.15, linewidth=0, label="cannot say")
        axes.axhline(verdict.prob, color=style.PALETTE[1], linewidth=0.8, linestyle="--", label="mean")
        axes.set(ylim=(-0.03, 1.03), xlabel="Seconds" if timed else "Frame", ylabel="Fake probability")
        axes.set_title(Path(verdict.path).name, fontsize=9)
        axes.legend(loc="best", fontsize=8)
        return style.save(drawing, stem)
