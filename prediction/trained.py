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
from common.errors import WeightsError

if TYPE_CHECKING:
    from training.config import Config
    from training.dataset import DataInfo
    from training.dataset.loader import Loader
    from training.detectors.base import Detector


@dataclass
class Trained:
    """A detector in evaluation mode with the configuration and data info that it was trained with."""

    path: Path
    config: Config
    detector: Detector
    info: DataInfo | None
    weights: Path

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


def load_trained(run_dir: str | Path, overrides: Sequence[str] = (), device: str | None = None) -> Trained:
    """Rebuild a run's detector from its configuration and its best, else last, checkpoint.

    Raises:
        WeightsError: the run kept no checkpoint, or it does not fit.
    """
    import torch

    from common.device import pick_device
    from training.config import load_config
    from training.dataset import DataInfo
    from training.detectors import build_detector

    run_dir, target = Path(run_dir), pick_device(device)
    config = load_config(run_dir / "config.yaml", list(overrides), mode="test")
    found = [path for name in ("best", "last") if (path := run_dir / "checkpoints" / f"{name}.pth").exists()]
    if not found:
        raise WeightsError(f"{run_dir} keeps no checkpoint (checkpoints/best.pth or last.pth); train it with save_ckpt")
    try:
        content = torch.load(found[0], map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"{found[0]} cannot be read ({type(error).__name__}); it may be truncated: copy it again, or remove it"
        ) from error
    info = DataInfo.from_dict(content["data_info"]) if content.get("data_info") else None
    detector = build_detector(config, data_info=info, pretrained=False)
    detector.load_weights(found[0])
    return Trained(run_dir, config, detector.to(target).eval(), info, found[0])


@dataclass
class Video:
    """The samples of one video: frames, or clips of a video detector.

    Attributes:
        name: unique. label, method: of the video.
        frame: `(N,)` frame numbers. image: uint8 `(N, 3, H, W)` or `(N, T, 3, H, W)`.
        mask: uint8 `(N, 1, H, W)` where the configuration asks for masks.
    """

    name: str
    label: int
    method: int
    frame: NDArray[np.int64]
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None


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
    return Video(name, label, method, np.array([row[3] for row in rows]), np.stack([row[4] for row in rows]), mask)


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
