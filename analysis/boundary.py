"""Where W looks: per-pixel AUC of Boundary Mining's W for the boundary band of true forgery masks.

    python analysis/boundary.py logs/clip_crossdomain/2026-01-01-12-00-00 --datasets FaceForensics++

On fakes with a mask: how well W, brought to the image's size, tells the pixels near the mask's edge from the rest of the image.
On the paired real frame (same target, same frame number) the same pixels are asked for: nothing was blended there, so
what exceeds 0.5 is what W owes to faces having their edges in the same places. A fixed Sobel map, averaged onto W's grid, stands
beside both. Means over frames, intervals by bootstrap over videos.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.cli import run

MAPS = ("W", "Sobel")


def edge_band(mask: NDArray, width: int) -> NDArray[np.bool_]:
    """Return the pixels `(H, W)` within `width` pixels of a mask's edge; the image's own border is no edge."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    padded = cv2.copyMakeBorder((mask > 0).astype(np.uint8), width, width, width, width, cv2.BORDER_REPLICATE)
    band = cv2.dilate(padded, kernel) != cv2.erode(padded, kernel)
    return band[width:-width, width:-width]


def pixel_auc(band: NDArray[np.bool_], heat: NDArray) -> float:
    """Return the probability that a pixel of the band is hotter than one outside, ties counting half (Mann-Whitney)."""
    from scipy.stats import rankdata

    inside = int(band.sum())
    ranks = rankdata(heat.ravel())[band.ravel()].sum()
    return float((ranks - inside * (inside + 1) / 2) / (inside * (band.size - inside)))


def maps_of(detector: Any, image: Any) -> dict[str, NDArray]:
    """Return W and the Sobel map of uint8 images `(B, 3, H, W)`, both `(B, h, w)` on W's grid."""
    import torch
    from torch.nn import functional as F

    from common.errors import DataError
    from training.modules.boundary_mining import sobel

    with torch.inference_mode():
        prediction = detector(detector.prepare({"image": image}), inference=True)
        if "boundary" not in prediction:
            raise DataError(f"{detector.name} returns no `boundary` map; train it with boundary.enabled")
        w = prediction["boundary"].float().cpu()
        edges = F.adaptive_avg_pool2d(sobel(image.float().mean(dim=1, keepdim=True) / 255), w.shape[-2:])
    return {"W": w[:, 0].numpy(), "Sobel": edges[:, 0].numpy()}


def measure(detector: Any, loader: Any, width: int) -> list[dict[str, Any]]:
    """Return `{"video", "frame", "kind" fake|real, "W", "Sobel"}` per fake frame with a mask, and per paired real frame.

    Bands are kept as bits until their real frames pass by, or the other way round.
    """
    rows, bands, reals = [], [], {}
    shape = (0, 0)
    for batch in loader:
        shape = tuple(batch["image"].shape[-2:])
        heat = maps_of(detector, batch["image"])
        for i, video in enumerate(batch["video"]):
            place = (int(batch["target_id"][i]), int(batch["frame"][i]))
            own = {name: heat[name][i] for name in MAPS}
            if int(batch["label"][i]) == 0:
                if place[0] >= 0:
                    reals[place] = own
                continue
            band = edge_band(batch["mask"][i, 0].numpy(), width)
            if band.any() and not band.all():
                rows.append(_row(video, place[1], "fake", band, own))
                bands.append((video, place, np.packbits(band)))
    for video, place, bits in bands:
        if place in reals:
            band = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)
            rows.append(_row(video, place[1], "real", band, reals[place]))
    return rows


def _row(video: str, frame: int, kind: str, band: NDArray[np.bool_], heat: dict[str, NDArray]) -> dict[str, Any]:
    import cv2

    size = band.shape[::-1]
    full = {name: cv2.resize(heat[name], size, interpolation=cv2.INTER_LINEAR) for name in MAPS}
    return {"video": video, "frame": frame, "kind": kind} | {name: pixel_auc(band, full[name]) for name in MAPS}


def summarise(rows: list[dict[str, Any]], seed: int = 0, resamples: int = 1000) -> list[dict[str, Any]]:
    """Return per kind and map the mean over frames and its 95 % interval by bootstrap over videos."""
    table = []
    for kind in ("fake", "real"):
        own = [row for row in rows if row["kind"] == kind]
        names = sorted({row["video"] for row in own})
        picks = np.random.default_rng(seed).integers(0, max(1, len(names)), (resamples, len(names)))
        for name in MAPS if own else ():
            sums = np.array([sum(r[name] for r in own if r["video"] == video) for video in names])
            counts = np.array([sum(r["video"] == video for r in own) for video in names])
            low, high = np.quantile(sums[picks].sum(1) / counts[picks].sum(1), [0.025, 0.975])
            value = sums.sum() / counts.sum()
            figures = {"auc": float(value), "low": float(low), "high": float(high)}
            table.append({"map": name, "kind": kind, **figures, "frames": len(own), "videos": len(names)})
    return table


def _texts(table: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [row["map"], "fakes" if row["kind"] == "fake" else "paired reals, same pixels",
         f"{row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})", str(row["frames"]), str(row["videos"])]
        for row in table
    ]  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    from analysis.reporting.tool import add_datasets, tool_parser

    parser = tool_parser(__doc__)
    add_datasets(parser)
    parser.add_argument(
        "--band", type=float, default=0.04, help="half width of the band, share of the side (default 0.04)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parser().parse_args(argv)
    from analysis.reporting.sections import Section
    from analysis.reporting.tool import conclude, test_set_of, trained_of
    from common.errors import ConfigError, DataError
    from common.io import write_json
    from common.progress import Progress
    from common.rundir import RunDir

    if not 0 < arguments.band < 0.5:
        raise ConfigError(f"--band {arguments.band} is no share of the side; give a number between 0 and 0.5")
    trained = trained_of(arguments, "with_mask=true")
    loader = test_set_of(arguments, trained)
    width = max(1, round(arguments.band * trained.config.resolution))
    rows = measure(trained.detector, Progress(loader, "batches", len(loader)), width)
    if not rows:
        raise DataError("no fake of this test set has a mask; choose a dataset with masks by --datasets")
    table = summarise(rows)
    write_json(
        RunDir(trained.path).analysis("boundary") / "boundary.json",
        {"band_pixels": width, "summary": table, "frames": rows},
    )
    words = (
        "Per-pixel AUC for the pixels near the true mask's edge, mean over frames (95 % interval by bootstrap over videos). The "
        "same pixels of the untouched frame stand below: 0.5 there means that W answers to the forgery, not to the face."
    )
    columns = ["Map", "On", "AUC", "Frames", "Videos"]
    for line in _texts(table):
        print(f"{line[0]:6} {line[1]:26} {line[2]}  {line[3]} frames of {line[4]} videos")
    conclude(trained, "boundary", Section("Boundary Mining's W", words, columns=columns, rows=_texts(table)))
    return 0


if __name__ == "__main__":
    run(main)
