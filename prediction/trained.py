"""A trained detector out of its run directory, and its data, by the public builders."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.cli import add_set
from common.errors import ConfigError, WeightsError
from common.rundir import run_meant

if TYPE_CHECKING:
    from training.config import Config
    from training.dataset import DataInfo
    from training.dataset.loader import Loader
    from training.detectors.base import Detector


@dataclass
class Trained:
    """A detector in evaluation mode with the configuration in use and what its weights say of their training.

    Attributes:
        path: the run directory, or the folder of the weight file.
        trained_with: the settings of the training; empty for somebody else's weights.
    """

    path: Path
    config: Config
    detector: Detector
    info: DataInfo | None
    weights: Path
    trained_with: dict[str, Any]

    def loader(self, split: Any, dataset: str | Sequence[str] | None = None) -> Loader:
        """Return the loader of a split, of the configured datasets or of those named."""
        from training.dataset import build_loader

        return build_loader(self.config, split, dataset, data_info=self.info)

    def fingerprint(self) -> str:
        """Return a digest of what a score depends on besides the image: the checkpoint's bytes and the configuration.

        What a tool keeps under it is not taken for the work of another checkpoint.
        """
        from training.trainer.checkpoint import fingerprint

        return fingerprint(self.config, self.weights)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every tool with a detector understands."""
    parser.add_argument("--device", metavar="cpu|cuda", help="default: a GPU where there is one")
    add_set(parser)


def load_trained(
    source: str | Path,
    overrides: Sequence[str] = (),
    device: str | None = None,
    weights: str | Path | None = None,
) -> Trained:
    """Rebuild a trained detector.

    Args:
        source: a run directory or its config.yaml, or a detector's YAML together with `weights`.
        overrides: keys of the configuration, `key=value`.
        weights: a weight file; None takes the run's best checkpoint, else its last.

    Raises:
        ConfigError: there is no such source. WeightsError: there are no weights, or they do not fit.
    """
    from common.device import pick_device
    from training.config import load_config
    from training.trainer.rebuild import rebuild

    if not Path(source).exists():
        raise ConfigError(f"there is no {source}; give a run directory, or a detector YAML with its weights")
    run = run_meant(source)
    if weights is not None:
        file = Path(weights)
    elif run is not None:
        file = run.kept_weights()
    else:
        raise WeightsError(f"no weights to predict with: give a run directory, or weights for {source}")
    target = pick_device(device)
    config = load_config(run.config if run else source, list(overrides), mode="test")
    rebuilt = rebuild(config, file, target)
    path = run.path if run else file.parent
    return Trained(path, config, rebuilt.detector, rebuilt.info, file, rebuilt.trained_with)


@dataclass
class Video:
    """The samples of one video: frames, or clips of a video detector.

    Attributes:
        name: unique. label, method: of the video.
        frame: `(N,)` frame numbers. image: uint8 `(N, 3, H, W)` or `(N, T, 3, H, W)`.
        mask: uint8 `(N, 1, H, W)` where the configuration asks for masks.
        person: number of whom it shows, -1 where unknown.
    """

    name: str
    label: int
    method: int
    frame: NDArray[np.int64]
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None
    person: int = -1


def videos(loader: Any) -> Iterator[Video]:
    """Yield the videos of an evaluation loader one by one; a video's frames follow each other there."""
    rows: list[tuple] = []
    for batch in loader:
        masks = batch["mask"].numpy() if "mask" in batch else [None] * len(batch["video"])
        for row in zip(
            batch["video"],
            batch["label"].tolist(),
            batch["method"].tolist(),
            batch["frame"].tolist(),
            batch["image"].numpy(),
            masks,
            batch["target_id"].tolist(),
        ):
            if rows and row[0] != rows[0][0]:
                yield _as_video(rows)
                rows = []
            rows.append(row)
    if rows:
        yield _as_video(rows)


def _as_video(rows: list[tuple]) -> Video:
    name, label, method, *_ = rows[0]
    mask = None if rows[0][5] is None else np.stack([row[5] for row in rows])
    frame, image = np.array([row[3] for row in rows]), np.stack([row[4] for row in rows])
    return Video(name, label, method, frame, image, mask, rows[0][6])


def predict_images(detector: Any, image: NDArray[np.uint8], batch_size: int) -> NDArray[np.float64]:
    """Return the fake probability of images or clips `(N, …)`, without labels, computed as testing computes it.

    That is in the number format that the detector's configuration names (`precision`).
    """
    import torch

    from training.trainer.precision import autocast

    config = getattr(detector, "config", None)
    precision, device = (
        (config.precision, next(detector.parameters()).device) if config else ("fp32", torch.device("cpu"))
    )
    found = []
    with torch.inference_mode():
        for start in range(0, len(image), batch_size):
            batch = {"image": torch.from_numpy(np.ascontiguousarray(image[start : start + batch_size]))}
            with autocast(precision, device):
                prediction = detector(detector.prepare(batch), inference=True)
            found.append(prediction["prob"].double().cpu().numpy())
    return np.concatenate(found)
