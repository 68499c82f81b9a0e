"""Ctrl-C, and the SIGTERM of a batch system, as a request that is met between two steps."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SAID = b"\nstopping after this step, with a checkpoint; once more stops at once\n"


class Interruption:
    """While this context lasts, the first SIGINT or SIGTERM only sets `asked`; the next one stops at once.

    Args:
        wanted: false changes nothing. So does any thread but the main one, the only one that signals reach.
    """

    def __init__(self, wanted: bool = True):
        self.asked = False
        self._wanted = wanted and threading.current_thread() is threading.main_thread()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT, signal.SIGTERM) if self._wanted else ():
            # What was told to ignore a signal (by nohup, or as a script's background job) goes on ignoring it.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not through the log: a handler may come in the middle of what the log is writing.
        os.write(2, _SAID)
