"""How far the preprocessing of a dataset is: videos, faces and failures."""

from time import monotonic
from typing import Any, TextIO

from common.progress import Progress
from preprocessing.extraction import Outcome


class VideoProgress:
    """Counts videos, faces and failures as outcomes come in."""

    def __init__(self, total: int, stream: TextIO):
        self._shown: Progress[Any] = Progress(None, "videos", total, every=10.0, last_line=True, stream=stream)
        self._faces = self._failures = 0
        self._start = monotonic()

    def add(self, outcome: Outcome) -> None:
        """Count one more video."""
        self._faces += outcome.faces
        self._failures += outcome.state == "failed"
        if outcome.state == "failed":
            self._shown.tell(f"failed: {outcome.key}: {outcome.error}")
        rate = self._faces / max(monotonic() - self._start, 1e-9)
        self._shown.note(f"{self._faces} faces, {rate:.1f} faces/s, {self._failures} failed")
        self._shown.advance()

    def close(self) -> None:
        """End the bar."""
        self._shown.close()
