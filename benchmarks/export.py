"""Every detector as ONNX at a small size: milliseconds beside torch's, the largest difference, or why there is none.

The keys that make a detector small are those of `detectors.yaml`; weights are random. Needs the extra `export`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks import row
from common.errors import ProjectError
from prediction.graph import BATCHES, ONNX, Session, cause, compare, program_of, seconds, trial, write_onnx

SETTINGS = Path(__file__).with_name("detectors.yaml")
QUICK = ("meso4",)


def small(name: str) -> Any:
    """Return a detector of random weights at a small size, with what exporting asks of a predictor."""
    import torch

    from prediction.trained import predict_images
    from training.config import load_config
    from training.config.loader import CONFIG_DIR
    from training.detectors.registry import build_detector

    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    keys = {**settings["all"], **settings["detectors"].get(name, {})}
    wanted = {key: value for key, value in keys.items() if key.partition(".")[0] in _SIZES}
    config = load_config(
        CONFIG_DIR / "detector" / f"{name}.yaml",
        [*(f"{key}={json.dumps(value)}" for key, value in wanted.items()), "pretrained=null"],
        quiet=True,
    )
    torch.manual_seed(0)
    detector = build_detector(config, pretrained=False).eval()

    def probabilities(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return predict_images(detector, images, len(images))

    clip = config.clip_size if config.video_mode else None
    return SimpleNamespace(
        name=name, detector=detector, resolution=config.resolution, clip_size=clip, probabilities=probabilities
    )


_SIZES = ("resolution", "clip_size", "backbone_name", "backbone_config", "video_mode")


def tried(name: str) -> dict[str, Any]:
    """Return a detector's row; without an export, `agreement` says why."""
    try:
        predictor = small(name)
        program = program_of(predictor)
    except (ProjectError, RuntimeError) as error:
        return row(name, "ms", 0.0, None, f"no export: {cause(error)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ONNX
        try:
            write_onnx(program, name, path)
            session = Session(path)
            difference = compare(predictor, session)
        except Exception as error:
            return row(name, "ms", 0.0, None, f"torch.export only: {cause(error)}")
        images = trial(predictor, max(BATCHES))
        ours, torchs = (1000 * seconds(call, images) for call in (session, predictor.probabilities))
        shape = "×".join(map(str, images.shape[1:]))
        return row(f"{name} ({shape})", "ms", ours, torchs, f"{difference:.1e}")


def run(quick: bool = False) -> list[dict]:
    """Return a row for each detector."""
    from training.detectors.registry import available_detectors

    return [tried(name) for name in (QUICK if quick else available_detectors())]
