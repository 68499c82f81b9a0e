"""Many videos at once: processes on this machine, or Ray's cluster, with the same function for each video."""

import faulthandler
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from time import monotonic
from typing import IO, Any

from common.errors import ConfigError
from preprocessing.extraction import Job, Outcome, overtime, process_video

Work = Callable[[Job], Outcome]

_AHEAD = 2
"""Videos handed out per worker; few, so that a worker's death puts few others under suspicion."""
_GRACE = 0.1
"""Share of the time limit (at least a second) that a video gets on top, to end by itself, before its process is ended."""


def run_here(jobs: Iterable[Job], workers: int, work: Work = process_video) -> Iterator[Outcome]:
    """Yield the outcome of each job as it ends, computed by `workers` processes (0: this one)."""
    if workers == 0:
        yield from map(work, jobs)
        return
    waiting = deque(jobs)
    while waiting:
        suspects = yield from _run_pool(waiting, workers, work)
        # A native library crashed, or was caught, on one of these. Each alone in a process of its own tells which.
        for job in suspects:
            yield _run_alone(job, work)


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: decoders and OpenCV keep threads that do not survive a fork.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)


def end_with_parent() -> None:
    """A worker whose run was killed would go on writing, beside the run that is started next."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@lru_cache(maxsize=1)
def _nowhere() -> IO[str]:
    return open(os.devnull, "w")


def _limited(work: Work, job: Job) -> Outcome:
    """Do a job in a worker. What is caught in native code listens to no timer: past its time, the process ends."""
    if job.timeout:
        faulthandler.dump_traceback_later(job.timeout + max(1.0, _GRACE * job.timeout), exit=True, file=_nowhere())
    try:
        return work(job)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _run_pool(waiting: deque[Job], workers: int, work: Work) -> Generator[Outcome, None, list[Job]]:
    """Work `waiting` off; return the jobs that were under way when a worker died, else nothing."""
    running: dict[Future[Outcome], Job] = {}
    pool = _pool(workers)
    try:
        while waiting or running:
            while waiting and len(running) < workers * _AHEAD:
                running[pool.submit(_limited, work, waiting[0])] = waiting[0]
                waiting.popleft()
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                outcome = future.result()
                del running[future]
                yield outcome
    except BrokenProcessPool:
        return list(running.values())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return []


def _run_alone(job: Job, work: Work) -> Outcome:
    with _pool(1) as pool:
        start = monotonic()
        try:
            return pool.submit(_limited, work, job).result()
        except BrokenProcessPool:
            if job.timeout and monotonic() - start >= job.timeout:
                return Outcome(job.key, "failed", error=overtime(job))
            return Outcome(job.key, "failed", error="the decoder crashed on this file; download or re-encode it")


def run_on_ray(jobs: Iterable[Job], workers: int | None = None) -> Iterator[Outcome]:
    """Yield the outcome of each job as it ends, computed by the Ray cluster that RAY_ADDRESS names (else one started here).

    Raises:
        ConfigError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray: Ray is not installed; run `pip install ray` or leave --engine out") from error
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=workers or None, include_dashboard=False, log_to_driver=False)
    # A worker that dies is started again once; then its video is failed, not the run.
    task = ray.remote(max_retries=1)(process_video)
    waiting, running = deque(jobs), dict[Any, Job]()
    limit = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.popleft()
                running[task.remote(job)] = job
            finished, _ = ray.wait(list(running), num_returns=1)
            job = running.pop(finished[0])
            try:
                yield ray.get(finished[0])
            except ray.exceptions.WorkerCrashedError:
                yield Outcome(job.key, "failed", error="the decoder crashed on this file; download or re-encode it")
    finally:
        if started:
            ray.shutdown()
