"""Many videos, decoded and searched by processes and scored in batches across files, beside one after another.

The detector is Xception with random weights on 16 frames of each video; its scores cost the same as trained ones. The videos are
those of the folder that CLIPDEEPFAKE_VIDEOS names, else the demo's. Starting the processes counts.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks import row
from common.errors import DataError
from prediction.pipeline import files_of, judged, workers_for
from prediction.predictor import Predictor
from prediction.verdict import Verdict

YAML = Path(__file__).parents[1] / "training/config/detector/xception.yaml"
FRAMES = 16
DEMO = os.path.join("datasets", "demo", "videos", "DemoCeleb")


def run(quick: bool = False) -> list[dict]:
    """Return videos a second of both ways and the largest difference of a score."""
    import torch

    from training.config import load_config
    from training.detectors.registry import build_detector

    folder = os.environ.get("CLIPDEEPFAKE_VIDEOS", DEMO)
    if not os.path.isdir(folder):
        raise DataError(
            f"there is no folder {folder}; `make demo-data` renders videos, or name yours in CLIPDEEPFAKE_VIDEOS"
        )
    paths = files_of([folder]) * (1 if quick else 4)
    config = load_config(YAML, ["pretrained=null"], quiet=True)
    with tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        weights = Path(place) / "random.pth"
        torch.save(build_detector(config, pretrained=False).state_dict(), weights)
        judge = Predictor(YAML, weights, "cpu", ["pretrained=null"])
    judge.sight.faces  # noqa: B018  # its 100 MB are read once, whatever the way
    frames = 4 if quick else FRAMES
    workers = max(1, workers_for(max(len(paths), 4)))
    took: list[float] = []
    said: list[list[float]] = []
    for number in (workers, 0):
        start = time.perf_counter()
        answers = [answer for _, answer in judged(judge, paths, frames, number)]
        took.append(len(paths) / (time.perf_counter() - start))
        said.append([answer.prob or 0.0 for answer in answers if isinstance(answer, Verdict)])
    difference = max(abs(a - b) for a, b in zip(*said, strict=True))
    name = f"{len(paths)} videos, {frames} frames each, {workers} processes"
    return [row(name, "videos/s", took[0], took[1], f"{difference:.1e}")]
