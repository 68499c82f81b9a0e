"""Progress of the tools: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], title: str, total: int | None = None, every: float = 15) -> Iterator[T]:
    """Yield `items` and show on stderr how far it is; off a terminal, one line every `every` seconds."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=title, total=total, leave=False, dynamic_ncols=True)
        return
    told = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - told > every:
            told = time.monotonic()
            print(f"{title} {number}{f'/{total}' if total else ''}", file=sys.stderr, flush=True)
