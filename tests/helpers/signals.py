"""Signals as a terminal's foreground job has them, however the tests themselves were started.

A script's background job ignores SIGINT and hands that on to every program it starts; `subprocess` restores other signals only.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NUMBERS = (signal.SIGINT, signal.SIGTERM)
_RESET = (
    "import os, signal, sys; [signal.signal(n, signal.SIG_DFL) for n in (2, 15)]; os.execvp(sys.argv[1], sys.argv[1:])"
)


def heeding(command: list[str]) -> list[str]:
    """Return the command line of the same program, under the same process id, that SIGINT and SIGTERM reach."""
    return [sys.executable, "-S", "-E", "-c", _RESET, *command]


@contextmanager
def heeded_here() -> Iterator[None]:
    """Let SIGINT and SIGTERM reach this process for the time of the block."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
