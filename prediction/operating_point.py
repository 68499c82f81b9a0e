"""Above which probability a file is called fake: the thresholds that `analysis/calibration.py` stored, each of one level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import DataError
from training.metrics.decision import HALF

# What a verdict is about: the mean of a video's frames, or one frame, which a picture is.
LEVELS = ("video", "frame")


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold of one level.

    Attributes:
        level: `video` or `frame`. threshold: what lies above it is called fake.
        calibrated: whether it was chosen on validation, for these very weights.
        found, false_alarms: shares of the validation's fakes and reals that it calls fake; None where none were counted.
    """

    level: str
    threshold: float = HALF
    calibrated: bool = False
    found: float | None = None
    false_alarms: float | None = None

    def describe(self) -> str:
        """Return the threshold, the level that it is of, and what it costs."""
        where = f"{self.threshold:.3f} for {'videos' if self.level == 'video' else 'pictures'}"
        if not self.calibrated:
            return f"{where} (not calibrated; analysis/calibration.py chooses one)"
        cost = "" if self.false_alarms is None else f": false alarms there {self.false_alarms:.1%}"
        cost += "" if self.found is None else f", fakes found {self.found:.1%}"
        of = "means of videos" if self.level == "video" else "single frames"
        return f"{where} (chosen on validation, {of}{cost})"


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
    return OperatingPoint(
        part.get("level", "frame"), float(threshold), True, told.get("found"), told.get("false_alarms")
    )
