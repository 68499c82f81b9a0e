"""AltFreezing: a 3-D ResNet whose spatial and temporal kernels take turns to learn.

Wang et al., "AltFreezing for More General Video Face Forgery Detection", CVPR 2023. A network that may use either finds what is
wrong in space and leaves time alone. So the kernels of the blocks that span pixels (1×3×3) stand still for 20 steps while those
that span frames (3×1×1) learn, then these for one step; all else always learns. A frozen kernel gets no gradient, so that
neither momentum nor weight decay moves it, and the optimiser's memory of it stays as it is. Its fakes are recorded ones and
such as are made of real clips (training/dataset/recipes/altfreezing_recipe.py). One sigmoid, binary cross-entropy.

What differs from the paper: its turns follow from the number of the step, with that one step first. Optimisation (batches of 32,
SGD, 0.05 along a cosine, 1000 epochs, no decay of norms) is that of the authors' published settings. What DeepfakeBench does
otherwise (`altfreezing_benchmark.yaml`): clips of 16 frames, Adam, recorded fakes alone. By its code it switches
after the forward pass, whose graph has been recorded by then; its first step, in which spatial kernels learn, was compared.

Input 32×224×224. 27.2 M parameters, 113.6 G multiply-adds per clip; on one core of an AMD EPYC 0.11 clips/s with 1.1 GB, and a
training step of one clip takes 28 s and 4.1 GB.
"""

from pydantic import Field

from training.detectors.base import Clock, DetectorCard
from training.detectors.registry import register_detector
from training.detectors.resnet3d_base import I3dClassifier, I3dConfig


class AltFreezingConfig(I3dConfig):
    """The trunk's keys, and how long each kind of kernel stands still."""

    dataset_type: str | None = Field(
        "altfreezing", description="training recipe; null: clips, with recorded fakes alone"
    )
    freeze_spatial: int = Field(20, ge=0, description="steps in a row in which spatial kernels stand still")
    freeze_temporal: int = Field(1, ge=0, description="steps in a row, before those, in which temporal kernels do")


@register_detector(AltFreezingConfig)
class AltFreezingDetector(I3dClassifier):
    """3-D ResNet-50, frozen by turns → one sigmoid."""

    card = DetectorCard(
        title="AltFreezing",
        kind="video",
        paper="AltFreezing for More General Video Face Forgery Detection",
        year=2023,
        url="https://arxiv.org/abs/2307.08317",
        parity="DeepfakeBench: outputs, loss, and in the first step which gradients there are and their norm",
    )

    config: AltFreezingConfig

    def frozen(self, step: int) -> str | None:
        """Return which kernels stand still in a step, `temporal` or `spatial`; None where nothing ever does."""
        temporal, spatial = self.config.freeze_temporal, self.config.freeze_spatial
        if not temporal + spatial:
            return None
        return "temporal" if step % (temporal + spatial) < temporal else "spatial"

    def after_backward(self, clock: Clock) -> None:
        kind = self.frozen(clock.step)
        for kernel in self.trunk.kernels()[kind] if kind else ():
            kernel.grad = None
