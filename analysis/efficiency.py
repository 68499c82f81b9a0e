"""What a detector costs: parameters, multiply-adds, images (or clips) per second, memory, checkpoint size.

    python analysis/efficiency.py training/config/detector/clip_ln.yaml training/config/detector/xception.yaml --out tables
    python analysis/efficiency.py logs/clip_ln/A logs/xception/B          (run directories add AUC against cost)
    python analysis/efficiency.py training/config/detector/i3d.yaml --batch 1 --device cpu         (one clip at a time)

Each detector is measured in a process of its own, on random images or clips, warmed up; speeds are medians with their spread. A
training step is forward, losses, gradients and the optimiser's update. Memory is what the work adds, and the peak of the whole
process with Python, PyTorch and the weights (on a GPU: of all that was allocated). Writes
efficiency.csv, .md, .tex, .html and the figure into --out (default: logs/efficiency); the reports of the run directories
show them too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.reporting.sheet import Sheet, write_csv, write_sheet
from common.cli import add_common, add_set, figures, run, whole
from common.errors import ConfigError

if TYPE_CHECKING:
    from training.config import Config

FIELDS = (
    "detector", "unit", "input", "parameters", "trainable", "gmacs", "checkpoint_mb", "inference_per_s", "inference_iqr",
    "training_per_s", "training_iqr", "memory_inference_mb", "memory_training_mb", "peak_inference_mb", "peak_training_mb",
    "batch", "device", "auc", "auc_datasets",
)  # fmt: skip


def synthetic_batch(config: Config, size: int, seed: int = 0) -> dict[str, Any]:
    """Return a batch as a loader gives it, of random pixels: first half real, second half fake."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    side = config.resolution
    frames = (config.clip_size,) if config.video_mode and config.clip_size else ()
    label = (torch.arange(size) >= (size + 1) // 2).long()
    zeros = torch.zeros(size, dtype=torch.int64)
    return {
        "image": torch.randint(0, 256, (size, *frames, 3, side, side), generator=generator, dtype=torch.uint8),
        "label": label,
        "method": label.clone(),
        "target_id": zeros,
        "source_id": zeros - 1,
        "domain": zeros,
        "mask": torch.randint(0, 2, (size, *frames, 1, side, side), generator=generator, dtype=torch.uint8),
        "landmark": torch.rand((size, *frames, 81, 2), generator=generator) * side,
        "video": [str(number) for number in range(size)],
        "frame": zeros,
        "index": torch.arange(size),
        "roles": 2,
    }


def multiply_adds(detector: Any, batch: dict[str, Any]) -> int:
    """Return the multiply-adds of one forward pass of a batch: half of the operations that torch's counter sees.

    The counter knows matrix products and convolutions. Attention is therefore computed by them here: it does not see into the
    fused kernels of an attention layer in evaluation mode, and would leave out more than a third of a ViT.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            detector(detector.prepare(batch), inference=True)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // 2


def speed(
    work: Callable[[], object], images: int, repeats: int, warmup: int, wait: Callable[[], object]
) -> tuple[float, float]:
    """Return images (or clips) per second: median and interquartile range over `repeats` calls after `warmup` calls.

    `wait` returns when the device has finished what it was given.
    """
    for _ in range(warmup):
        work()
    rates = []
    for _ in range(repeats):
        wait()
        started = time.perf_counter()
        work()
        wait()
        rates.append(images / (time.perf_counter() - started))
    quartiles = statistics.quantiles(rates, n=4) if len(rates) > 1 else [rates[0]] * 3
    return statistics.median(rates), quartiles[2] - quartiles[0]


def _memory(device: str, work: Callable[[], object]) -> tuple[float, float]:
    """Return what `work` adds to the memory in use at most, and the peak of the whole process, both in MB.

    On CUDA both are the most that was allocated. The peak of a process only rises: measure smaller work first.
    """
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        work()
        return (torch.cuda.max_memory_allocated() / 1e6,) * 2
    import resource

    import psutil

    before = psutil.Process().memory_info().rss
    work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return max(0.0, peak - before) / 1e6, peak / 1e6


def measure(path: str, overrides: list[str], device: str, batch_size: int, repeats: int) -> dict[str, Any]:
    """Return the costs of the detector that a YAML or a run directory describes."""
    import torch

    from common.rundir import run_meant
    from training.config import load_config
    from training.dataset import DataInfo
    from training.detectors import build_detector
    from training.detectors.base import Clock
    from training.optimizer.builder import build_optimizer

    run = run_meant(path)
    config = load_config(run.config if run else path, overrides)
    if batch_size < 2 and not config.video_mode:
        raise ConfigError("--batch must be at least 2 (a real and a fake); detectors of clips also take 1")
    info = DataInfo(
        {"a:0": 0, "a:1": 1},
        {"real": 0, "fake": 1},
        {"a": 0},
        {"real": 1, "fake": 1, "videos_real": 1, "videos_fake": 1},
    )
    detector = build_detector(config, data_info=info, pretrained=False).to(device)
    batch = synthetic_batch(config, batch_size)

    def infer() -> None:
        with torch.inference_mode():
            detector(detector.prepare(batch), inference=True)

    optimizer = build_optimizer(detector, config)
    clock = Clock(0, 100, 10)

    def train() -> None:
        detector.before_step(clock)
        ready = detector.prepare(batch)
        detector.get_losses(ready, detector(ready))["overall"].backward()
        detector.after_backward(clock)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    detector.eval()
    frames = f"{config.clip_size} × " if config.video_mode else ""
    row: dict[str, Any] = {
        "detector": config.model_name,
        "unit": "clips" if config.video_mode else "images",
        "input": f"{frames}{config.resolution}²",
        "parameters": sum(p.numel() for p in detector.parameters()),
        "trainable": detector.trainable_parameters(),
        "checkpoint_mb": sum(v.numel() * v.element_size() for v in detector.state_dict().values()) / 1e6,
    }
    row["memory_inference_mb"], row["peak_inference_mb"] = _memory(device, infer)
    row["inference_per_s"], row["inference_iqr"] = speed(infer, batch_size, repeats, 2, wait)
    detector.train()
    row["memory_training_mb"], row["peak_training_mb"] = _memory(device, train)
    row["training_per_s"], row["training_iqr"] = speed(train, batch_size, repeats, 1, wait)
    detector.eval()
    # Last, because counting computes attention in a way that takes more memory.
    row["gmacs"] = multiply_adds(detector, synthetic_batch(config, 1)) / 1e9
    return row | {"batch": batch_size, "device": torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"}


def mean_auc(path: str) -> tuple[float | None, str]:
    """Return the mean frame AUC over a run's test sets of both classes, and their names; None when there are none."""
    from common.rundir import RunDir, has_auc

    if not RunDir(path).results_file.exists():
        return None, ""
    datasets = {name: metrics for name, metrics in RunDir(path).datasets.items() if has_auc(metrics)}
    if not datasets:
        return None, ""
    return sum(m["frame"]["auc"]["value"] for m in datasets.values()) / len(datasets), " ".join(datasets)


def spread(row: dict[str, Any], what: str) -> float:
    """Return what stands behind ± wherever a speed is shown: half the interquartile range."""
    return row[f"{what}_iqr"] / 2


def rate(row: dict[str, Any], what: str) -> str:
    """Return the images (or clips) a second of `inference` or `training` with their spread, as console and table show them."""
    return f"{figures(row[f'{what}_per_s'])} ± {figures(spread(row, what), 2)}"


def absent(rows: list[dict[str, Any]]) -> list[str]:
    """Return the detectors that a figure of AUC cannot show, because only others have results."""
    if all(row["auc"] is None for row in rows):
        return []
    return [row["detector"] for row in rows if row["auc"] is None]


def _plain(value: float, _: object = None) -> str:
    """Return the text of a tick on a logarithmic axis; of minor ticks only 2, 3 and 5 have one."""
    return f"{value:g}" if f"{value:e}"[0] in "1235" else ""


def per_second(rows: list[dict[str, Any]]) -> str:
    """Return what a speed of these rows counts, in words."""
    units = sorted({row["unit"] for row in rows}, reverse=True)
    return f"{' or '.join(units).capitalize()} per second"


def draw(rows: list[dict[str, Any]], stem: Path) -> list[Path]:
    """Draw AUC (where known, else speed with its spread) over multiply-adds, the area of a point following the parameters."""
    from matplotlib.ticker import NullFormatter

    from common import style

    known = [row for row in rows if row["auc"] is not None]
    key, label = ("auc", "Mean frame AUC") if known else ("inference_per_s", f"{per_second(rows)}, inference")
    shown = known or rows
    for name in absent(rows):
        print(
            f"{name} is not in the figure: it has no results to draw an AUC from; test its run, and name the run directory"
        )
    largest = max(row["parameters"] for row in shown)
    with style.figure(5.2, 3.8) as (drawing, axes):
        for number, row in enumerate(shown):
            size = 30 + 370 * row["parameters"] / largest
            axes.scatter(
                row["gmacs"],
                row[key],
                s=size,
                color=style.PALETTE[number % len(style.PALETTE)],
                alpha=0.75,
                linewidths=0,
            )
            if not known:
                axes.errorbar(row["gmacs"], row[key], yerr=spread(row, "inference"), color="#555555", linewidth=1)
            text = f"{row['detector']} ({row['parameters'] / 1e6:.3g} M)"
            axes.annotate(
                text, (row["gmacs"], row[key]), xytext=(0, 11), textcoords="offset points", ha="center", fontsize=8
            )
        axes.set(
            xlabel=f"Multiply-adds per {' or '.join(sorted({row['unit'][:-1] for row in rows}, reverse=True))} (10⁹)",
            ylabel=label,
            title="Cost of a detector",
            xscale="log",
        )
        if not known:
            axes.set_yscale("log")
        axes.margins(0.25)
        for axis in (axes.xaxis, *([] if known else [axes.yaxis])):
            axis.set_major_formatter(_plain)
            low, high = axis.get_view_interval()
            axis.set_minor_formatter(_plain if high < 50 * low else NullFormatter())
        return style.save(drawing, stem)


def sheet(rows: list[dict[str, Any]]) -> Sheet:
    """Return the costs as a table of texts."""
    columns = ["Detector", "Input", "Parameters (M)", "Trainable (M)", "Multiply-adds (10⁹)", "Checkpoint (MB)"]
    columns += ["Inference (per s)", "Training (per s)", "Training step (s)", "Memory, inference / training (MB)"]
    columns += ["Peak of the process (MB)", "Mean frame AUC"]
    lines = [
        [
            row["detector"],
            row["input"],
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['trainable'] / 1e6:.3f}",
            f"{row['gmacs']:.3g}",
        ]
        + [f"{row['checkpoint_mb']:.1f}"]
        + [rate(row, what) for what in ("inference", "training")]
        + [figures(row["batch"] / row["training_per_s"])]
        + [f"{row[f'{what}_inference_mb']:.0f} / {row[f'{what}_training_mb']:.0f}" for what in ("memory", "peak")]
        + ["–" if row["auc"] is None else f"{row['auc']:.4f}"]
        for row in rows
    ]
    device, batch = rows[0]["device"], rows[0]["batch"]
    units = " or ".join(sorted({row["unit"] for row in rows}, reverse=True))
    note = (
        f"Measured on {device} with batches of {batch} random {units}, after warm-up; speeds are medians ± half their "
        "interquartile range; a training step includes the optimiser's update; multiply-adds of one input at the detector's "
        "own size; checkpoint: weights alone; memory: what the work adds, and the whole process at its peak."
    )
    if left_out := absent(rows):
        note += f" Not in the figure, since without results there is no AUC: {', '.join(left_out)}."
    return Sheet("Efficiency", note, columns, lines)


def _report(rows: list[dict[str, Any]], sources: list[str], figures: list[Path], table: Sheet) -> None:
    """Show the table in the reports of those sources that are run directories."""
    from analysis.report import refresh_reports
    from analysis.reporting.sections import Section, publish

    runs = [Path(path) for path in sources if Path(path).is_dir()]
    section = Section(table.title, table.caption, columns=table.columns, rows=table.rows)
    section.captions = ["AUC over multiply-adds" if any(row["auc"] for row in rows) else "Speed over multiply-adds"]
    publish(runs, "efficiency", section, figures)
    refresh_reports(runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("detectors", nargs="+", metavar="YAML|RUN_DIR", help="detector YAML files or run directories")
    parser.add_argument("--out", default="logs/efficiency", metavar="DIR", help="default: logs/efficiency")
    parser.add_argument("--batch", type=whole(), default=8, help="images or clips a batch (default 8)")
    parser.add_argument("--repeats", type=whole(), default=7, help="measured calls (default 7)")
    parser.add_argument("--device", default=None, metavar="cpu|cuda", help="default: a GPU where there is one")
    add_set(parser)
    add_common(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    if arguments.batch < 1 or arguments.repeats < 1:
        raise ConfigError("--batch and --repeats must be at least 1")
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from common.device import pick_device
    from common.progress import Progress

    device = str(pick_device(arguments.device))
    rows = []
    for path in Progress(arguments.detectors, "detectors", len(arguments.detectors)):
        # Peak memory belongs to a process; a fresh one has seen no other detector.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            row = pool.submit(measure, path, arguments.set, device, arguments.batch, arguments.repeats).result()
        row["auc"], row["auc_datasets"] = mean_auc(path)
        rows.append(row)
        print(
            f"{row['detector']}: {row['parameters'] / 1e6:.2f} M parameters ({row['trainable'] / 1e6:.3f} M trainable), "
            f"{row['gmacs']:.3g} GMACs, {rate(row, 'inference')} {row['unit']}/s (median ± half the interquartile range), "
            f"training {rate(row, 'training')}, a step {figures(row['batch'] / row['training_per_s'])} s; memory added "
            f"{row['memory_inference_mb']:.0f} / {row['memory_training_mb']:.0f} MB, peak of the process "
            f"{row['peak_inference_mb']:.0f} / {row['peak_training_mb']:.0f} MB (inference / training)"
        )
    out, table = Path(arguments.out), sheet(rows)
    drawn = draw(rows, out / "efficiency")
    for written in [
        write_csv(rows, FIELDS, out / "efficiency.csv"),
        *write_sheet(table, out, "efficiency"),
        *drawn,
    ]:
        print(written)
    _report(rows, arguments.detectors, drawn, table)
    return 0


if __name__ == "__main__":
    run(main)
