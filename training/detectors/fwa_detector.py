"""FWA: find faces that went through a smaller picture than their surroundings.

Li & Lyu, "Exposing DeepFake Videos By Detecting Face Warping Artifacts", CVPR Workshops 2019. A plain classifier; the method
is its training data, real faces and imitations of warping made from them (training/dataset/recipes/fwa_recipe.py), with
cross-entropy. No forgery is seen.

What differs from the paper: Xception instead of VGG16 or ResNet, and the benchmark's aligned crops instead of randomly widened
face boxes, as DeepfakeBench has it, so that its weights load. Its loss is the same; what its data does otherwise is said in
the recipe.

Input 256×256. 20.8 M parameters, 6.0 G multiply-adds per image at that size.
"""

from training.config.schema import Config
from training.detectors.base import DetectorCard
from training.detectors.registry import register_detector
from training.detectors.xception_base import XceptionClassifier


class FwaConfig(Config):
    """FWA's own keys: none; its training data by default."""

    dataset_type: str | None = "fwa"


@register_detector(FwaConfig)
class FwaDetector(XceptionClassifier):
    """Xception → class."""

    card = DetectorCard(
        title="FWA",
        kind="spatial",
        paper="Exposing DeepFake Videos By Detecting Face Warping Artifacts",
        year=2019,
        url="https://arxiv.org/abs/1811.00656",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )
