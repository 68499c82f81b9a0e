"""Frequency spectra of real and fake faces: the azimuthal average of the power spectrum, per test set.

python analysis/spectra.py logs/clip_ln/2026-01-01-12-00-00 --datasets Celeb-DF-v2
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.cli import run, whole

if TYPE_CHECKING:
    from prediction.trained import Video

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def azimuthal_average(power: NDArray) -> NDArray[np.float64]:
    """Average a centred power spectrum `(H, W)` over circles.

    Returns:
        `(B,)` means over rings of width one cycle per image, of the shorter side: ring k holds frequencies in [k - ½, k + ½),
        from 0 up to the shorter side's Nyquist frequency.
    """
    height, width = power.shape
    side = min(height, width)
    fy = (np.arange(height) - height // 2) / height * side
    fx = (np.arange(width) - width // 2) / width * side
    ring = np.rint(np.hypot(fy[:, None], fx[None])).astype(int)
    kept = ring <= side // 2
    return np.bincount(ring[kept], power[kept]) / np.bincount(ring[kept])


def log_spectrum(image: NDArray) -> NDArray[np.float64]:
    """Return the azimuthal average of log10 power of an RGB image `(H, W, 3)`; luma, mean taken off, Hann window."""
    luma = image.astype(np.float64) @ LUMA
    height, width = luma.shape
    # Without a window the jump between opposite borders would draw a cross over the spectrum.
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fftshift(np.fft.fft2((luma - luma.mean()) * window))) ** 2
    return np.log10(azimuthal_average(power) + 1e-8)


def collect(source: Iterable[Video], frames: int) -> dict[str, NDArray]:
    """Return the mean log spectrum of each video, `(V, B)`, by class; at most `frames` frames of a video are taken."""
    found: dict[str, list[NDArray]] = {"real": [], "fake": []}
    for video in source:
        images = video.image.reshape(-1, *video.image.shape[-3:])[:: max(1, len(video.image) // frames)][:frames]
        spectra = [log_spectrum(image.transpose(1, 2, 0)) for image in images]
        found["fake" if video.label else "real"].append(np.mean(spectra, axis=0))
    return {name: np.stack(rows) for name, rows in found.items() if rows}


def _band(rows: NDArray) -> tuple[NDArray, NDArray]:
    """Return mean and half-width of its 95 % interval over videos (normal approximation)."""
    spread = rows.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.zeros(rows.shape[1])
    return rows.mean(axis=0), 1.96 * spread


def write_spectra(spectra: dict[str, dict[str, NDArray]], folder: Path) -> None:
    """Write spectra.csv and the figure: the spectra, and below them fake less real."""
    from common import style
    from common.io import atomic_write

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["dataset", "class", "videos", "frequency", "log10_power", "half_width"])
    with style.figure(3.6 * len(spectra), 4.8, 2, len(spectra), sharex="col", squeeze=False, height_ratios=(2, 1)) as (
        drawing,
        grid,
    ):
        for column, (dataset, classes) in enumerate(spectra.items()):
            top, bottom = grid[:, column]
            for name, colour, dash in (("real", style.REAL, "-"), ("fake", style.FAKE, "--")):
                if name not in classes:
                    continue
                mean, half = _band(classes[name])
                x = np.arange(len(mean)) / (2 * (len(mean) - 1))  # cycles per pixel
                top.plot(x, mean, dash, color=colour, label=f"{name} ({len(classes[name])} videos)")
                top.fill_between(x, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
                writer.writerows(
                    (dataset, name, len(classes[name]), *(f"{v:.6g}" for v in row)) for row in zip(x, mean, half)
                )
            top.set(title=dataset, ylabel="log₁₀ power" if column == 0 else None)
            top.legend()
            if len(classes) == 2:
                (real, a), (fake, b) = _band(classes["real"]), _band(classes["fake"])
                gap, half = fake - real, np.hypot(a, b)
                bottom.plot(x, gap, color=style.PALETTE[2])
                bottom.fill_between(x, gap - half, gap + half, color=style.PALETTE[2], alpha=0.15, linewidth=0)
            bottom.axhline(0, color=style.NEUTRAL, linewidth=0.8, linestyle=":")
            bottom.set(
                xlabel="Frequency (cycles per pixel)", ylabel="fake − real" if column == 0 else None, xlim=(0, 0.5)
            )
        style.save(drawing, folder / "spectra")
    atomic_write(folder / "spectra.csv", text.getvalue())


def _parser() -> argparse.ArgumentParser:
    from analysis.reporting.tool import tool_parser

    parser = tool_parser(__doc__, "run directory: its config.yaml says where the data are")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="default: the run's test_dataset")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--frames", type=whole(1), default=8, help="frames of a video (default 8)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    from analysis.report import refresh_reports
    from analysis.reporting.sections import Section, write_section
    from common.progress import Progress
    from common.rundir import open_run
    from prediction.trained import videos
    from training.config import load_config
    from training.dataset import build_loader

    run_dir = open_run(arguments.run_dir)
    config = load_config(run_dir.config, arguments.set, mode="test")
    spectra = {}
    for dataset in arguments.datasets or config.test_dataset:
        loader = build_loader(config, arguments.split, dataset)
        spectra[dataset] = collect(Progress(videos(loader), f"{dataset}, videos", len(loader.index)), arguments.frames)
    folder = run_dir.analysis("spectra")
    write_spectra(spectra, folder)
    text = (
        "Azimuthal average of the log power spectrum of the face crops at the detector's input resolution; bands are 95 % "
        "intervals of the mean over videos. Where fake − real leaves zero, a detector could live on statistics alone."
    )
    write_section(
        folder, Section("Frequency spectra", text, ["spectra.png"], ["Spectra of real and fake, and their difference"])
    )
    print(folder / "spectra.csv")
    refresh_reports([run_dir.path])
    return 0


if __name__ == "__main__":
    run(main)
