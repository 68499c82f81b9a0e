"""The dataset index at a million frames: time and memory to read, cache and open it, and what data workers add.

The reference is what holding the same index as Python objects costs: `json.load` of the file, the paths in lists. Every
measurement runs in a fresh process, so that peaks do not hide in memory that an earlier one left behind.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import row

FRAMES_PER_VIDEO = 300
NAME = "FaceForensics++"


FOLDERS = {
    "FF-real": "original_sequences/youtube",
    "FF-DF": "manipulated_sequences/Deepfakes",
    "FF-F2F": "manipulated_sequences/Face2Face",
    "FF-NT": "manipulated_sequences/NeuralTextures",
}


def write_index(path: Path, frames: int) -> None:
    """Write a synthetic index of about so many frames: one real video to three fakes with masks, c23."""
    each = max(1, frames // FRAMES_PER_VIDEO // len(FOLDERS))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{{"{NAME}": ')
        for number, (label, folder) in enumerate(FOLDERS.items()):
            file.write(f'{", " if number else "{"}"{label}": {{"train": {{"c23": ')
            for i in range(each):
                name = f"{i:06d}" if label == "FF-real" else f"{i:06d}_{i + 1:06d}"
                base = f"./datasets/{NAME}/{folder}/c23"
                entry: dict[str, Any] = {
                    "label": label,
                    "frames": [f"{base}/frames/{name}/{n:03d}.png" for n in range(FRAMES_PER_VIDEO)],
                    "target_id": f"{i:06d}",
                }
                if label != "FF-real":
                    entry["masks"] = [frame.replace("/frames/", "/masks/") for frame in entry["frames"]]
                file.write(f'{", " if i else "{"}"{name}": {json.dumps(entry)}')
            file.write("}}}")
        file.write("}}")


def _peak() -> float:
    """Return the process's largest resident memory so far, in MiB."""
    # Not getrusage's figure, which a process inherits from the one that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _grown(before: float) -> float:
    """Return by how much the peak has risen, in MiB; a rise too small to see counts as 0.1."""
    return max(_peak() - before, 0.1)


def _private() -> float:
    """Return the memory that this process shares with no other, in MiB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1024


def _held(path: str) -> tuple[float, float, int]:
    """Read the index as Python objects: the reference."""
    before, started = _peak(), time.perf_counter()
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    seconds = time.perf_counter() - started
    return (
        seconds,
        _grown(before),
        sum(len(v["frames"]) for s in content[NAME].values() for v in s["train"]["c23"].values()),
    )


def _built(path: str) -> tuple[float, float, int]:
    """Read the index from JSON and write its cache."""
    from training.dataset.index import table_cache

    table_cache.cache_path(Path(path)).unlink(missing_ok=True)
    before, started = _peak(), time.perf_counter()
    table = table_cache.load_table(Path(path), NAME)
    return time.perf_counter() - started, _grown(before), len(table.number)


def _opened(path: str) -> tuple[float, float, int]:
    """Open the cached index and look at every frame's number once."""
    from training.dataset.index import table_cache

    before, started = _peak(), time.perf_counter()
    table = table_cache.load_table(Path(path), NAME)
    seconds = time.perf_counter() - started
    int(table.number.sum())
    return seconds, _grown(before), len(table.number)


def _config(path: str, workers: int) -> Any:
    from training.config.schema import Config

    return Config.model_validate(
        {
            "model_name": "benchmark",
            "train_dataset": [NAME],
            "train_batchSize": 64,
            "frame_num": {"train": FRAMES_PER_VIDEO, "test": FRAMES_PER_VIDEO},
            "workers": workers,
            "dataset_json_folder": str(Path(path).parent),
            "label_dict": {"FF-real": 0, "FF-DF": 1, "FF-F2F": 1, "FF-NT": 1},
        }
    )


def _epoch(path: str) -> tuple[float, float, int]:
    """Build the loader and an epoch's shuffled draws over every frame."""
    from training.dataset import build_loader

    before, started = _peak(), time.perf_counter()
    loader = build_loader(_config(path, 0), "train")
    batches = len(loader)
    return time.perf_counter() - started, _grown(before), batches * 64


def _worker(index: Any, answer: Connection, go: Connection) -> None:
    """What a data worker does to an index: ask for paths all over it."""
    go.recv()
    before = _private()
    for video in range(len(index)):
        for position in range(0, int(index.frames[video]), 3):
            index.frame(video, position)
        index.video_id(video)
    answer.send(_private() - before)
    go.recv()  # all measure while all live: pages count as shared only then


def _added_by_workers(path: str, method: str, workers: int = 4) -> tuple[float, float, int]:
    """Return (seconds, MiB that each worker adds for itself by reading the index, frames)."""
    from training.dataset.index.selection import load_index

    index = load_index(_config(path, workers), [NAME], "train")
    context: Any = multiprocessing.get_context(method)
    started = time.perf_counter()
    crew = []
    for _ in range(workers):
        (mine, theirs), (go, wait) = context.Pipe(), context.Pipe()
        process = context.Process(target=_worker, args=(index, theirs, wait))
        process.start()
        crew.append((process, mine, go))
    for _, _, go in crew:
        go.send(None)
    added = [mine.recv() for _, mine, _ in crew]
    for process, _, go in crew:
        go.send(None)
        process.join()
    return time.perf_counter() - started, max(added), int(index.frames.sum())


def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `work` returns in a process of its own, started without a copy of this one's memory."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(send, work, arguments))
    process.start()
    send.close()
    try:
        return receive.recv()
    finally:
        process.join()


def _report(send: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    send.send(work(*arguments))


def run(quick: bool = False) -> list[dict]:
    """Measure at a million frames (at 30,000 when quick); agreement says whether all frames were counted."""
    frames = 30_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{NAME}.json"
        write_index(path, frames)
        held, built = _apart(_held, str(path)), _apart(_built, str(path))
        opened, epoch = _apart(_opened, str(path)), _apart(_epoch, str(path))
        forked, spawned = (_apart(_added_by_workers, str(path), method) for method in ("fork", "spawn"))
        cached = path.with_suffix(".idx").stat().st_size / 2**20
    title = f"{held[2]} frames"
    counted = "frames equal" if held[2] == built[2] == opened[2] else "frames differ"
    return [
        row(f"JSON to table and cache, {title}", "s", built[0], held[0], counted),
        row(f"JSON to table and cache, {title}: peak memory", "MiB", built[1], held[1], counted),
        row(f"open the cache, {title}", "s", opened[0], held[0], counted),
        row(f"open the cache, {title}: peak memory", "MiB", opened[1], held[1], counted),
        row(f"the cache file, {title}", "MiB", cached, None, None),
        row(f"loader and shuffled epoch, {title}", "s", epoch[0], None, None),
        row(f"loader and shuffled epoch, {title}: peak memory", "MiB", epoch[1], None, None),
        row("each of 4 forked workers, after a third of all paths: own memory", "MiB", forked[1], None, None),
        row("each of 4 spawned workers, after a third of all paths: own memory", "MiB", spawned[1], None, None),
    ]
