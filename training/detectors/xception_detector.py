"""Xception as a detector: the strongest network of the FaceForensics++ study, and the field's baseline.

Rössler et al., "FaceForensics++: Learning to Detect Manipulated Facial Images", ICCV 2019. From ImageNet weights, the classifier
alone is trained for `head_epochs` = 3 epochs, then everything for 15 more, with Adam (2e-4) and batches of 32.

What differs from the paper: 256 pixels of an aligned crop instead of 299 of a box 1.3 times the face, as all detectors of the
benchmark. What DeepfakeBench does otherwise: everything is trained from the first step, for 10 epochs (`head_epochs: 0`,
`nEpochs: 10`), and rotation is off.

Input 256×256. 20.8 M parameters, 6.0 G multiply-adds per image at that size.
"""

from pydantic import Field

from training.config.schema import Config
from training.detectors.base import Clock, DetectorCard
from training.detectors.registry import register_detector
from training.detectors.xception_base import XceptionClassifier


class XceptionConfig(Config):
    """The detector's own keys."""

    head_epochs: int = Field(3, ge=0, description="first epochs, in which the classifier alone is trained")


@register_detector(XceptionConfig)
class XceptionDetector(XceptionClassifier):
    """Xception → class, the classifier first."""

    card = DetectorCard(
        title="Xception",
        kind="naive",
        paper="FaceForensics++: Learning to Detect Manipulated Facial Images",
        year=2019,
        url="https://arxiv.org/abs/1901.08971",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )

    config: XceptionConfig

    def after_backward(self, clock: Clock) -> None:
        """Take the trunk's gradients away in the first epochs: an optimiser leaves alone what has none."""
        if clock.epoch < self.config.head_epochs:
            self.backbone.zero_grad(set_to_none=True)
