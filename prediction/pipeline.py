"""Many files at once: processes decode and find faces while this one scores them, in batches across files.

Answers come in the order of the files, and are those of one file after another to a float's last digits. At most a few files a
process are under way or waiting, so memory does not grow with their number.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from glob import glob, has_magic
from pathlib import Path

from common.errors import ConfigError, DataError
from prediction.judge import Judge
from prediction.sight import Seen, Sight
from prediction.verdict import Verdict

AHEAD = 2
"""Files handed out per process."""
FEW = 4
"""Below so many files, starting processes (each loads 100 MB of model) costs more than they save."""
MOST = 16


def files_of(words: Iterable[str]) -> list[str]:
    """Return the files that words name: files, folders (their pictures and videos, at any depth) and patterns (`*`, `**`).

    Raises:
        ConfigError: a folder or a pattern holds no picture and no video.
    """
    from preprocessing.media import is_picture, is_video, walk

    found: list[str] = []
    for word in words:
        inside: Iterable[Path]
        if os.path.isdir(word):
            inside = (Path(word) / visit.path / name for visit in walk(word) for name in visit.files)
        elif has_magic(word) and not os.path.exists(word):
            inside = map(Path, sorted(glob(word, recursive=True)))
        else:
            found.append(word)
            continue
        media = [str(path) for path in inside if is_picture(path) or is_video(path)]
        if not media:
            raise ConfigError(f"{word} holds no picture and no video; name files, a folder or a pattern that does")
        found += media
    return list(dict.fromkeys(found))


def workers_for(files: int) -> int:
    """Return how many processes pay for so many files; 0: none."""
    return 0 if files < FEW else min(files, len(os.sched_getaffinity(0)), MOST)


def judged(
    judge: Judge, paths: Sequence[str], num_frames: int = 32, workers: int = 0
) -> Iterator[tuple[Seen | None, Verdict | DataError]]:
    """Yield what is said of each file, in order, and what was seen in it; an error is its file's alone.

    Args:
        num_frames: looked at in a video. workers: processes that decode and find faces; 0 does it here.
    """
    waiting: list[Seen | DataError] = []
    faces = 0
    for seen in looked_at(judge.sight, paths, num_frames, workers):
        waiting.append(seen)
        faces += 0 if isinstance(seen, DataError) else sum(map(len, seen.people))
        if workers == 0 or faces >= judge.batch_size * (judge.clip_size or 1):
            yield from _scored(judge, waiting)
            waiting, faces = [], 0
    yield from _scored(judge, waiting)


def _scored(judge: Judge, waiting: list[Seen | DataError]) -> Iterator[tuple[Seen | None, Verdict | DataError]]:
    verdicts = iter(judge.judge([seen for seen in waiting if not isinstance(seen, DataError)]))
    for seen in waiting:
        yield (None, seen) if isinstance(seen, DataError) else (seen, next(verdicts))


def looked_at(sight: Sight, paths: Iterable[str], num_frames: int, workers: int) -> Iterator[Seen | DataError]:
    """Yield what each file shows, in order, found by `workers` processes, or here where there are none."""
    if not workers or sight.given:
        yield from (_look(sight, path, num_frames) for path in paths)
        return
    rest = deque(paths)
    while rest:
        # A library crashed on one of those under way: each alone in a process of its own tells on which.
        for path in (yield from _in_pool(_pool(workers), sight, rest, num_frames, workers)):
            with _pool(1) as alone:
                try:
                    yield alone.submit(_look_there, sight.finder, sight.max_pixels, path, num_frames).result()
                except BrokenProcessPool:
                    yield DataError(f"{path}: the decoder crashed on this file; download or re-encode it")


def _in_pool(
    pool: Executor, sight: Sight, rest: deque[str], num_frames: int, workers: int
) -> Generator[Seen | DataError, None, list[str]]:
    """Yield what files show; return those that were under way when a process died."""
    running: deque[tuple[str, Future[Seen | DataError]]] = deque()
    try:
        while rest or running:
            while rest and len(running) < AHEAD * workers:
                path = rest.popleft()
                running.append((path, pool.submit(_look_there, sight.finder, sight.max_pixels, path, num_frames)))
            seen = running[0][1].result()
            running.popleft()
            yield seen
    except BrokenProcessPool:
        return [path for path, _ in running]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return []


def _look(sight: Sight, path: str, num_frames: int) -> Seen | DataError:
    try:
        return sight.look(path, num_frames)
    except DataError as error:
        return error


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: decoders, OpenCV and torch keep threads that do not survive a fork.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    from preprocessing.pool import end_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this
    end_with_parent()


@lru_cache(maxsize=1)
def _sight(finder: str, max_pixels: int) -> Sight:
    return Sight(finder, max_pixels)


def _look_there(finder: str, max_pixels: int, path: str, num_frames: int) -> Seen | DataError:
    return _look(_sight(finder, max_pixels), path, num_frames)
