"""A trained detector for pictures and videos as they come: find the face, align it as for training, score it.

from training import Predictor
predictor = Predictor.from_run("logs/clip_crossdomain/2026-01-01-12-00-00")
verdict = predictor.predict("holiday.mp4")
verdict.answer, verdict.prob, verdict.reason
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.rundir import RunDir
from prediction.judge import Judge
from prediction.operating_point import LEVELS, OperatingPoint, read_points
from prediction.sight import SECOND, Sight
from prediction.verdict import FrameScore, Person, Verdict, to_json

__all__ = ["SECOND", "FrameScore", "Person", "Predictor", "Verdict", "to_json"]


class Predictor(Judge):
    """A detector with its weights, its threshold and the face pipeline of preprocessing.

    Args:
        source: a run directory, or a detector's YAML together with `weights`.
        weights: a weight file; None takes the run's best checkpoint, else its last.
        device: `cpu` or `cuda`; None takes a GPU where there is one.
        overrides: keys of the configuration, `key=value`.
        faces: a `FacePipeline`; None builds one with the finder that the weights were trained with (`hog` where they do not
            say); where that sees nobody, another finder looks, and the verdict says so.
        rendered_files: whether the files are rendered ones, of which weights of rendered faces may speak; None: those that
            lie in a folder of the demo's datasets.

    Raises:
        ConfigError, WeightsError: the configuration or the weights do not fit.
    """

    def __init__(
        self,
        source: str | Path,
        weights: str | Path | None = None,
        device: str | None = None,
        overrides: Sequence[str] = (),
        faces: Any = None,
        rendered_files: bool | None = None,
    ):
        from prediction.trained import load_trained

        trained = load_trained(source, overrides, device, weights)
        self.config, self.detector, self.weights = trained.config, trained.detector, trained.weights
        # A run's settings are those of its training, other people's weights say nothing of theirs.
        training = trained.config.model_dump() if weights is None else trained.trained_with
        self.trained_on = list(training.get("train_dataset", []))
        self.data_note = training.get("data_note")
        self.points, self.remark = {level: OperatingPoint(level) for level in LEVELS}, ""
        if weights is None:
            self.points, self.remark = read_points(RunDir(trained.path).operating_point, trained.fingerprint())
        told = trained.info.crops.values() if trained.info is not None else ()
        finders = {str(crops.get("finder") or "hog") for crops in told if crops}
        # Several: cut in different ways.
        self.sight = Sight(finders.pop() if len(finders) == 1 else "hog", trained.config.data.max_pixels, faces)
        self.rendered_files = rendered_files

    @classmethod
    def from_run(cls, run: str | Path, device: str | None = None) -> Predictor:
        """Return the predictor of a run directory, with its best weights (else its last) and the thresholds kept there.

        Args:
            run: `logs/<detector>/<time>`. device: `cpu` or `cuda`; None takes a GPU where there is one.

        Raises:
            ConfigError: there is no such run. WeightsError: it has no weights yet.
        """
        return cls(run, device=device)

    @property
    def name(self) -> str:  # type: ignore[override]
        """The detector's name."""
        return self.detector.name

    @property
    def resolution(self) -> int:
        """Side of the network's input in pixels."""
        return self.config.resolution

    @property
    def clip_size(self) -> int | None:
        """Faces of a clip; None for a detector of images."""
        return (self.config.clip_size or None) if self.config.video_mode else None

    @property
    def batch_size(self) -> int:
        """Images or clips at once."""
        return self.config.test_batchSize

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the fake probability `(N,)` of images `(N, 3, H, W)` or clips `(N, T, 3, H, W)`, as testing computes it."""
        from prediction.trained import predict_images

        return predict_images(self.detector, images, self.batch_size)

    def heat(self, crop: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """Return the detector's Grad-CAM of an image `(H, W, 3)` of its size, `(H, W)` in [0, 1]; None for clips."""
        if self.clip_size:
            return None
        import torch

        from prediction.saliency import grad_cam

        maps = grad_cam(self.detector, torch.from_numpy(crop).permute(2, 0, 1)[None])
        return None if maps is None else maps[0]
