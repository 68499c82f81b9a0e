"""What every benchmark shares: timing by medians, the name of the machine, and the row that a result is."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path


def median_seconds(work: Callable[[], object], repeats: int = 5, warmup: int = 1) -> float:
    """Return the median wall-clock seconds of `work` over `repeats` calls, after `warmup` calls that do not count."""
    for _ in range(warmup):
        work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def machine() -> str:
    """Return what was measured on: processor and logical cores, and the GPU when torch is loaded and has one."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        models = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    text = f"{name}, {os.cpu_count()} logical cores, Python {platform.python_version()}"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        text += f", {torch.cuda.get_device_name()}"
    return text


def row(name: str, unit: str, ours: float, reference: float | None, agreement: str | float | None) -> dict:
    """Return one result.

    Args:
        name: what was measured, with its size.
        unit: of `ours` and `reference`; one that ends in `/s` is better when higher, else lower is better.
        ours, reference: medians; `reference` None when there is nothing to compare with.
        agreement: how far the two results are the same (largest difference, say).

    Returns:
        The dictionary that `python -m benchmarks` prints and writes; `ratio` is how many times better ours is.
    """
    ratio = None if reference is None else ours / reference if unit.endswith("/s") else reference / ours
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "agreement": agreement,
        "machine": machine(),
    }
