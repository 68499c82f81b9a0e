"""How a verdict is printed: a sentence, a table's line, a line of JSON, or rows of CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator

from prediction.judge import Judge
from prediction.operating_point import UNSURE, describe_limits
from prediction.verdict import EVIDENCE, FrameScore, Verdict, as_row

NO_FACE = "no face"
CSV_FIELDS = (
    "file", "of", "person", "verdict", "score", "frame", "time_s", "left", "top", "right", "bottom", "reason", "detector",
    "trained_on", "note",
)  # fmt: skip


def head(judge: Judge, form: str) -> list[str]:
    """Return the lines before the answers."""
    if form == "jsonl":
        return []
    if form == "csv":
        return [",".join(CSV_FIELDS)]
    said = [judge.describe(), EVIDENCE]
    return [*said, _line("verdict", "score", "threshold", "people", "faces", "file")] if form == "table" else said


def answer(judge: Judge, verdict: Verdict, form: str, even_so: bool) -> str:
    """Return what is printed of a verdict. Where the detector cannot say, its scores are shown with `even_so` only."""
    forms: dict[str, Callable[[], str]] = {
        "text": lambda: f"{verdict.path}: {words(verdict, even_so)}",
        "table": lambda: _table_line(verdict, even_so),
        "jsonl": lambda: json.dumps(as_row(verdict, judge.about())),
        "csv": lambda: _csv(judge, verdict, even_so),
    }
    return forms[form]()


def _side(fake: bool | None) -> str:
    return UNSURE if fake is None else "fake" if fake else "real"


def words(verdict: Verdict, even_so: bool = False) -> str:
    """Return a verdict as a sentence."""
    if verdict.prob is None:
        text = f"no face was found in {verdict.looked} frame{'s' * (verdict.looked > 1)}; nothing to judge"
        return f"{text} ({verdict.damage})" if verdict.damage else text
    if verdict.reason:
        text = f"cannot say: {verdict.reason}"
        text += f"; its score, for what it is worth: {verdict.prob:.3f}" if even_so else ""
        return f"{text}; {verdict.damage}" if verdict.damage else text
    side = f"called {verdict.answer} at the {verdict.level} threshold {verdict.threshold:.3f}"
    if verdict.limits is not None:
        side = f"{verdict.answer} by the {verdict.level} limits ({describe_limits(verdict.limits)})"
        side = side if verdict.fake is None else f"called {side}"
    scored = f"{len(verdict.scores)} scored of {verdict.looked} looked at"
    if verdict.scores[0].last is not None:
        scored = (
            f"{len(verdict.scores)} clip{'s' * (len(verdict.scores) > 1)} scored, {verdict.looked} frames looked at"
        )
    text = f"the detector's score {verdict.prob:.3f}, {side} ({scored})"
    if len(verdict.people) > 1:
        each = ", ".join(f"{person.prob:.3f} {_side(person.fake)}" for person in verdict.people)
        text += f"; {len(verdict.people)} people, each on their own: {each}"
    return "; ".join([text, *filter(None, [verdict.finder_note, *verdict.remarks, verdict.damage])])


def _line(*cells: str) -> str:
    return f"{cells[0]:<11}{cells[1]:>6}{cells[2]:>11}{cells[3]:>8}{cells[4]:>7}  {cells[5]}"


def _table_line(verdict: Verdict, even_so: bool) -> str:
    shown = verdict.prob is not None and (not verdict.reason or even_so)
    faces = sum(len(person.scores) for person in verdict.people)
    counts = (str(len(verdict.people)), str(faces))
    line = _line(
        (verdict.answer or NO_FACE),
        f"{verdict.prob:.3f}" if shown else "–",
        f"{verdict.threshold:.3f}",
        *counts,
        verdict.path,
    )
    notes = [verdict.reason, verdict.finder_note, *verdict.remarks, verdict.damage]
    return "\n".join([line, *(f"{'':11}{note}" for note in notes if note)])


def _csv(judge: Judge, verdict: Verdict, even_so: bool) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_csv_rows(judge, verdict, even_so))
    return text.getvalue().rstrip("\n")


def _csv_rows(judge: Judge, verdict: Verdict, even_so: bool) -> Iterator[list]:
    """Yield a row of the whole, one of each person, and one of each face (or clip)."""
    hidden = bool(verdict.reason) and not even_so
    prob = "" if verdict.prob is None or hidden else f"{verdict.prob:.9g}"
    about = [judge.name, judge.training_data(), EVIDENCE]
    reason = "; ".join(filter(None, [verdict.reason, *verdict.remarks, verdict.damage]))
    yield [verdict.path, "whole", "", (verdict.answer or NO_FACE), prob, *[""] * 6, reason, *about]
    for number, person in enumerate([] if hidden else verdict.people, 1):
        yield [verdict.path, "person", number, _side(person.fake), f"{person.prob:.9g}", *[""] * 10]
        for score in person.scores:
            yield [verdict.path, "face" if score.last is None else "clip", number, "", *_cells(score), *[""] * 4]


def _cells(score: FrameScore) -> list:
    time = "" if score.time is None else f"{score.time:.3f}"
    return [f"{score.prob:.9g}", score.frame, time, *(f"{value:.1f}" for value in score.box)]
