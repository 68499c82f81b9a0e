"""How far the work is: a bar on a terminal, plain lines elsewhere."""

from time import monotonic
from typing import Any, TextIO

from preprocessing.extraction import Outcome

_EVERY = 10.0  # seconds between plain lines


class Progress:
    """Counts videos, faces and failures as outcomes come in."""

    def __init__(self, total: int, stream: TextIO):
        self._total, self._stream = total, stream
        self._videos = self._faces = self._failures = 0
        self._start = self._told = monotonic()
        self._bar: Any = None
        if stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="video", file=stream)

    def add(self, outcome: Outcome) -> None:
        """Count one more video."""
        self._videos += 1
        self._faces += outcome.faces
        self._failures += outcome.state == "failed"
        now = monotonic()
        rate = self._faces / max(now - self._start, 1e-9)
        if outcome.state == "failed":
            self._tell(f"failed: {outcome.key}: {outcome.error}")
        if self._bar is not None:
            self._bar.set_postfix_str(f"{rate:.1f} faces/s, {self._failures} failed", refresh=False)
            self._bar.update()
        elif now - self._told >= _EVERY or self._videos == self._total:
            self._told = now
            left = (now - self._start) / self._videos * (self._total - self._videos)
            self._tell(
                f"{self._videos}/{self._total} videos, {self._faces} faces, {rate:.1f} faces/s, {self._failures} failed, "
                f"{left:.0f} s to go"
            )

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()

    def _tell(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)
