"""A detector out of a weight file: the one way in which testing, prediction and every tool come by a trained network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.batch import DataInfo
from training.config.schema import Config

if TYPE_CHECKING:
    import torch

    from training.detectors.base import Detector


@dataclass(frozen=True)
class Rebuilt:
    """A detector in evaluation mode, and what its weight file says of itself.

    Attributes:
        info: identities, manipulations and counts of the training data; None for somebody else's weights.
        trained_with: the settings of the training, empty for somebody else's weights.
    """

    detector: Detector
    info: DataInfo | None
    trained_with: dict[str, Any]


def rebuild(config: Config, weights: str | Path, device: torch.device) -> Rebuilt:
    """Build the network that a configuration means, on a device, and load a weight file into it.

    Raises:
        ConfigError: unknown detector. WeightsError: the file cannot be read, or is of another network.
    """
    import torch

    from training.detectors import build_detector
    from training.trainer.checkpoint import own_content

    own = own_content(Path(weights))
    info = DataInfo.from_dict(own["data_info"]) if own.get("data_info") else None
    torch.manual_seed(config.manualSeed)
    detector = build_detector(config, data_info=info, pretrained=False)
    detector.load_weights(weights)
    return Rebuilt(detector.to(device).eval(), info, own.get("config", {}))
