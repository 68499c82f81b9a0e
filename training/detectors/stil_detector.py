"""STIL: spatial and temporal inconsistency, learnt in every block of a ResNet, each informing the other.

Gu et al., "Spatiotemporal Inconsistency Learning for DeepFake Video Detection", ACM MM 2021. Each bottleneck of the
self-calibrated ResNet-50 (SCNet, with deep stem and mean pooling) is split in two. The spatial half gates its map by a coarse
view of it; the temporal half weighs channels by how neighbouring frames differ along height and along width, takes in what the
spatial half found (training/detectors/parts/stil.py), and mixes neighbouring frames. A clip's logits are the mean of its
frames'. Cross-entropy; Adam (1e-3, an epoch's rise), batches of 10.

What differs from the authors' code: the learning rate falls to a tenth every 20 epochs, where theirs falls after epochs 5 and
20; a clip is successive stored frames, where theirs are spread over many; 40 epochs instead of 100. What DeepfakeBench does
otherwise (`stil_benchmark.yaml`): Adam at 2e-4, 10 epochs, batches of 8, mean and standard deviation 0.5.

Input 8×224×224. 22.7 M parameters. On one CPU core 0.41 clips a second with 1.1 GB, and 7.5 s for a training step
of one clip with 3.4 GB (10.3 s and 2.4 GB with `grad_checkpointing`).
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from timm.models.resnet import ResNet
from torch import Tensor, nn

from training.config.schema import Config
from training.detectors.base import ClassificationDetector, DetectorCard
from training.detectors.parts.stil import StilBlock, our_names
from training.detectors.registry import register_detector
from training.networks.pretrained import load_pretrained
from training.networks.recompute import recomputed
from training.networks.weights import State, rename

# Blocks of each stage, and their widths.
_SHAPES = {"scnet50_v1d": ((3, 4, 6, 3), (64, 128, 256, 512)), "scnet_tiny": ((1, 1, 1, 1), (32, 32, 64, 64))}
# What STIL adds to SCNet, and what it leaves out of it.
_NEW = (r"\.(temporal|supplement|shift)\.", r"\.spatial\.(across|along)\.")
_LEFT_OUT = (r"^fc\.", r"\.scconv\.k2\.")


class StilConfig(Config):
    """STIL's own keys."""

    pretrained: str | None = Field("scnet50_v1d", description="a file of SCNet's ImageNet weights, or null")
    backbone_name: Literal["scnet50_v1d", "scnet_tiny"] = Field("scnet50_v1d", description="scnet_tiny is for tests")  # type: ignore[assignment]
    resolution: int = Field(224, ge=32, le=8192)
    video_mode: bool = True
    clip_size: int | None = Field(8, ge=2, le=1024, description="frames of a clip")
    grad_checkpointing: bool = Field(False, description="recompute the blocks in backward: less memory, more time")

    @model_validator(mode="after")
    def _one_variant(self) -> "StilConfig":
        if not self.video_mode or self.clip_size is None:
            raise ValueError("video_mode: this detector reads clips; leave it true and set clip_size")
        asked = self.backbone_config
        if (asked.inc, asked.num_classes) != (3, 2) or (asked.mode or "original").lower() != "original":
            raise ValueError("backbone_config: this detector takes mode original, inc 3 and num_classes 2")
        return self


@register_detector(StilConfig)
class StilDetector(ClassificationDetector):
    """SCNet of STIL blocks on every frame → mean over frames → class."""

    card = DetectorCard(
        title="STIL",
        kind="video",
        paper="Spatiotemporal Inconsistency Learning for DeepFake Video Detection",
        year=2021,
        url="https://arxiv.org/abs/2109.01860",
        parity="DeepfakeBench: outputs, loss and gradient norm",
    )

    config: StilConfig

    def __init__(self, config: StilConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        layers, channels = _SHAPES[config.backbone_name]
        self.trunk: Any = ResNet(
            StilBlock,  # type: ignore[arg-type]
            layers,
            num_classes=0,
            channels=channels,
            stem_width=32,
            stem_type="deep",
            avg_down=True,
            block_args={"frames": config.clip_size},
        )
        if pretrained:
            load_pretrained(
                self.trunk, config.pretrained, config.backbone_name, miss=_NEW, ignore=_LEFT_OUT, convert=our_names
            )
        self.dropout = nn.Dropout(config.backbone_config.dropout)
        self.head = nn.Linear(self.trunk.num_features, 2)

    @classmethod
    def weights_file(cls, config: Config) -> str:
        return f"{Path(config.pretrained or '').stem}.pth"

    def features(self, image: Tensor) -> Tensor:
        net, x = self.trunk, image.flatten(0, 1)  # (B·T, 3, H, W)
        x = net.maxpool(net.act1(net.bn1(net.conv1(x))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            for block in stage:
                x = recomputed(block, x) if self.config.grad_checkpointing and self.training else block(x)
        return x.mean((2, 3)).unflatten(0, image.shape[:2]).mean(1)  # (B, D)

    def classifier(self, feat: Tensor) -> Tensor:
        return self.head(self.dropout(feat))

    def convert_keys(self, state: State) -> State:
        bare = rename(state, [(r"^(?:model\.)?base_model\.", "")])
        named = our_names(bare)
        return {f"head.{key[3:]}" if key.startswith("fc.") else f"trunk.{key}": value for key, value in named.items()}
