"""How far long work is: a bar on a terminal, a plain line now and then elsewhere, both with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TextIO, TypeVar

T = TypeVar("T")


class Progress(Generic[T]):
    """Shows how much of `total` is done: iterate over it, or call `advance` for each piece of work.

    Args:
        items: what to iterate over; None for those who call `advance` and, in the end, `close`.
        title: what is counted. total: how many there are; None where nobody knows.
        shown: False for the processes beside the main one.
        done: how many were done before.
        every: seconds between plain lines; the last piece has its line too where `last_line` asks for it.
        stream: where bar and lines go. say: takes the plain lines instead, a logger's `info`, say.
    """

    def __init__(
        self,
        items: Iterable[T] | None,
        title: str,
        total: int | None = None,
        *,
        shown: bool = True,
        done: int = 0,
        every: float = 15.0,
        last_line: bool = False,
        stream: TextIO | None = None,
        say: Callable[[str], None] | None = None,
    ):
        self._items, self._title, self._total = items, title, total
        self._shown, self._first, self._done = shown, done, done
        self._every, self._last_line = every, last_line
        self._stream = stream if stream is not None else sys.stderr
        self._say = say or self._print
        self._text = ""
        self._began = self._told = time.monotonic()
        self._bar: Any = None

    def __iter__(self) -> Iterator[T]:
        self._began = self._told = time.monotonic()
        try:
            self._open()
            for item in self._items or ():
                yield item
                self.advance()
        finally:
            self.close()

    def _open(self) -> None:
        if self._bar is None and self._shown and self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._total,
                initial=self._done,
                desc=self._title,
                file=self._stream,
                leave=False,
                dynamic_ncols=True,
            )

    def advance(self) -> None:
        """Count one more."""
        self._open()
        self._done += 1
        if self._bar is not None:
            self._bar.update()
            return
        now = time.monotonic()
        if self._shown and (now - self._told > self._every or (self._last_line and self._done == self._total)):
            self._told = now
            self._say(self._line(now - self._began))

    def _line(self, seconds: float) -> str:
        of, left = "", ""
        if self._total is not None:
            of = f"/{self._total}"
            rest = seconds / (self._done - self._first) * (self._total - self._done)
            left = f" ({rest:.0f} s left)"
        return f"{self._title} {self._done}{of}{' ' if self._text else ''}{self._text}{left}"

    def note(self, text: str) -> None:
        """Show a few numbers beside the bar."""
        self._text = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def tell(self, text: str) -> None:
        """Write a line of its own, above the bar where there is one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            self._say(text)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
