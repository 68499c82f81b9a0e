"""IResNet, the trunk of ArcFace (Deng et al., CVPR 2019), up to its last map: what faces look like, whoever they are of.

Layers have the names of the published files (insightface's `backbone.pth`), whose embedding, made for faces of 112 pixels,
is left out; maps are made of pictures of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from common.errors import WeightsError
from training.networks.weights import PRETRAINED_DIR, assign_state, find_weights, read_state

IResNetName = Literal["iresnet18", "iresnet34", "iresnet50", "iresnet100"]
FEATURES = 512
# What makes an embedding of the last map.
EMBEDDING_KEYS = (r"^(?:fc|features)\.",)
DEPTHS: dict[str, tuple[int, ...]] = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}
WIDTHS = (64, 128, 256, FEATURES)


class _Block(nn.Module):
    """Normalised on both sides of both convolutions, with nothing after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        first = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(first)) + self.downsample(x)


class IResNet(nn.Module):
    """Images in [−1, 1] → `(B, C, ⌈H/16⌉, ⌈W/16⌉)`, C of the last stage.

    Args:
        blocks: of the four stages, `DEPTHS` of a published one. widths: channels of the stages.
        frozen: so many of the stages, and the stem before them, stay as they are, in evaluation.
    """

    def __init__(self, blocks: Sequence[int], widths: Sequence[int] = WIDTHS, frozen: int = 0):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
        inputs = widths[0]
        for stage, (depth, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            layers = [_Block(width if i else inputs, width, 1 if i else 2) for i in range(depth)]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            inputs = width
        self.bn2 = nn.BatchNorm2d(inputs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.stages = [f"layer{stage}" for stage in range(1, len(widths) + 1)]
        self.still = ["conv1", "bn1", "prelu", *self.stages[:frozen]] if frozen else []
        for part in self.still:
            self.get_submodule(part).requires_grad_(False)

    def train(self, mode: bool = True) -> IResNet:
        """Switch modes; what is frozen stays in evaluation."""
        super().train(mode)
        for part in self.still:
            self.get_submodule(part).eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(image)))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.bn2(x)


def load_arcface(net: IResNet, file: str, key: str) -> None:
    """Load an ArcFace file, named by its path or by its name in `training/pretrained/`.

    Args:
        key: the setting that names the file, for messages.

    Raises:
        WeightsError: there is no such file, or it is of another network.
    """
    found = find_weights(file)
    if found is None:
        raise WeightsError(
            f"{key}: there is no file {file}, nor {PRETRAINED_DIR / file}; put insightface's ArcFace weights (backbone.pth of "
            f"ms1mv3_arcface_r100) there, or write {key}: null to begin at random"
        )
    assign_state(net, read_state(found), str(found), may_ignore=EMBEDDING_KEYS)
