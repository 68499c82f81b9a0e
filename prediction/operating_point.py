"""What a score is called: real, fake, or nothing at all, by what `analysis/calibration.py` stored, each of one level.

With limits a score above the upper one is fake, below the lower one real, and in between the answer is `cannot say`. Without
them (not calibrated, or stored before there were limits) the threshold alone decides.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import DataError
from training.metrics.decision import HALF, called_fake
from training.metrics.selective import Limits

# What a verdict is about: the mean of a video's frames, or one frame, which a picture is.
LEVELS = ("video", "frame")
UNSURE = "cannot say"


def answer(prob: float, threshold: float = HALF, limits: Limits | None = None) -> str:
    """Return `real`, `fake` or `cannot say`; limits, where there are some, replace the threshold."""
    if limits is not None:
        return limits.verdict(prob) or UNSURE
    return "fake" if called_fake(prob, threshold) else "real"


def is_fake(said: str | None) -> bool | None:
    """Return an answer as a truth value; None where nothing is said."""
    return {"fake": True, "real": False}.get(said or "")


def describe_limits(limits: Limits) -> str:
    """Return in words what is called what."""
    low = "nothing is called real" if math.isinf(limits.low) else f"real below {limits.low:.3f}"
    high = "nothing is called fake" if math.isinf(limits.high) else f"fake above {limits.high:.3f}"
    return f"{low}, {high}, else {UNSURE}; at most {limits.alpha:.0%} of either kind called wrongly on data like validation"


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold of one level.

    Attributes:
        level: `video` or `frame`. threshold: what lies above it is called fake.
        calibrated: whether it was chosen on validation, for these very weights.
        found, false_alarms: shares of the validation's fakes and reals that it calls fake; None where none were counted.
        limits: between which nothing is said, of the same level; None where none are stored, and the threshold decides.
    """

    level: str
    threshold: float = HALF
    calibrated: bool = False
    found: float | None = None
    false_alarms: float | None = None
    limits: Limits | None = None

    def describe(self) -> str:
        """Return the threshold, the level that it is of, and what it costs."""
        where = f"{self.threshold:.3f} for {'videos' if self.level == 'video' else 'pictures'}"
        if not self.calibrated:
            return f"{where} (not calibrated; analysis/calibration.py chooses one)"
        cost = "" if self.false_alarms is None else f": false alarms there {self.false_alarms:.1%}"
        cost += "" if self.found is None else f", fakes found {self.found:.1%}"
        of = "means of videos" if self.level == "video" else "single frames"
        said = "" if self.limits is None else f"; {describe_limits(self.limits)}"
        return f"{where} (chosen on validation, {of}{cost}{said})"


def read_points(path: Path, fingerprint: str) -> tuple[dict[str, OperatingPoint], str]:
    """Return an operating point per level, and a remark on what of the file is not used, empty where there is none.

    A threshold of other weights, or of another resolution, says nothing of these; neither does one of another level, nor one
    whose level is not said, as the first version of this project wrote them (it fitted frames and was compared with videos).

    Args:
        path: operating_point.json, which need not exist. fingerprint: of the weights and settings in use.

    Raises:
        DataError: the file is damaged.
    """
    from common.io import read_json

    points = {level: OperatingPoint(level) for level in LEVELS}
    if not path.exists():
        return points, ""
    content = read_json(path)
    parts = (
        [content, *(content[level] for level in LEVELS if level in content)] if isinstance(content, dict) else [content]
    )
    read = [_point(part, path) for part in parts]
    if content.get("fingerprint") != fingerprint:
        return points, f"{path} is not of these weights and settings, and is not used"
    if content.get("level") is None:
        return (
            points,
            f"{path} does not say of what level its threshold is, and is not used; run analysis/calibration.py again",
        )
    return points | {point.level: point for point in read}, ""


def _point(part: Any, path: Path) -> OperatingPoint:
    threshold = part.get("threshold") if isinstance(part, dict) else None
    if not isinstance(threshold, int | float) or part.get("level", "frame") not in LEVELS:
        raise DataError(f"{path} holds no threshold of a level; run analysis/calibration.py again, or remove it")
    told = part.get("validation") or {}
    limits = _limits(part["limits"], path) if part.get("limits") is not None else None
    return OperatingPoint(
        part.get("level", "frame"), float(threshold), True, told.get("found"), told.get("false_alarms"), limits
    )


def limits_as_json(limits: Limits) -> dict[str, float | None]:
    """Return limits for JSON, which has no infinity: None is a limit that no score passes."""
    ends = {"low": limits.low, "high": limits.high}
    return {name: None if math.isinf(end) else end for name, end in ends.items()} | {"alpha": limits.alpha}


def limits_from_json(stored: Any) -> Limits:
    """Return what `limits_as_json` stored; raises KeyError, TypeError or ValueError where it is no such thing."""
    low, high, alpha = (stored[name] for name in ("low", "high", "alpha"))
    limits = Limits(-math.inf if low is None else float(low), math.inf if high is None else float(high), float(alpha))
    if not (limits.low <= limits.high and 0 < limits.alpha < 1):
        raise ValueError(f"{stored} are no limits")
    return limits


def _limits(stored: Any, path: Path) -> Limits:
    with suppress(KeyError, TypeError, ValueError):
        return limits_from_json(stored)
    raise DataError(f"{path} holds limits that are none; run analysis/calibration.py again, or remove it")
