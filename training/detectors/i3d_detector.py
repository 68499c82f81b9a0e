"""I3D: a ResNet-50 inflated to 3-D, pre-trained on human actions.

Carreira & Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017. Kernels of a picture
network get a third side and read frames as they read pixels. As in the field it is the ResNet-50 of SlowFast's authors (kernels
are temporal or spatial, training/networks/resnet3d.py), not the paper's Inception; one sigmoid, binary cross-entropy.

What differs from DeepfakeBench, whose settings these are: the mean over places and times lets clips have any size; the
classifier begins at random, not as Kinetics' first class; `feat` is what the classifier reads, not its answer.

Input 16×224×224. 27.2 M parameters, 56.8 G multiply-adds per clip; on one core of an AMD EPYC 0.25 clips/s with 1.0 GB, and a
training step of one clip takes 14 s and 2.6 GB (16 s and 2.1 GB with `grad_checkpointing`).
"""

from training.detectors.base import DetectorCard
from training.detectors.registry import register_detector
from training.detectors.resnet3d_base import I3dClassifier, I3dConfig


@register_detector(I3dConfig)
class I3dDetector(I3dClassifier):
    """3-D ResNet-50 → one sigmoid."""

    card = DetectorCard(
        title="I3D",
        kind="video",
        paper="Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset",
        year=2017,
        url="https://arxiv.org/abs/1705.07750",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )
