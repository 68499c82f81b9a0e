"""The face-recognition network of ArcFace (IResNet; Deng et al., CVPR 2019), which tells whose face a picture seems to show.

The trunk of `training/networks/iresnet.py` with its embedding; the shapes of a published file tell how deep and how wide it is.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import WeightsError
from training.networks.iresnet import DEPTHS, WIDTHS, IResNet
from training.networks.states import NOT_THEIRS
from training.networks.weights import (
    PRETRAINED_DIR,
    State,
    assign_state,
    find_weights,
    read_state,
    without_shared_prefix,
)

EMBEDDING = 512
_STRIDE = 16
NetworkName = Literal["iresnet18", "iresnet34", "iresnet50", "iresnet100", "tiny"]


class NetworkShape(NamedTuple):
    """Blocks and channels of the four stages, and the side of the picture that the last layer is made for."""

    blocks: tuple[int, ...]
    widths: tuple[int, ...] = WIDTHS
    side: int = 112


SHAPES: dict[NetworkName, NetworkShape] = {
    "iresnet18": NetworkShape(DEPTHS["iresnet18"]),
    "iresnet34": NetworkShape(DEPTHS["iresnet34"]),
    "iresnet50": NetworkShape(DEPTHS["iresnet50"]),
    "iresnet100": NetworkShape(DEPTHS["iresnet100"]),
    "tiny": NetworkShape((1, 1, 1, 1), (8, 8, 16, 16), 32),
}


class IdentityNetwork(IResNet):
    """IResNet from a normalised face crop of any size to an embedding `(B, 512)`.

    Args:
        shape: how deep and wide.
        trains: whether training moves it, but for the last normalisation's gain, which ArcFace holds at 1. Otherwise it is
            frozen and stays in evaluation.
    """

    def __init__(self, shape: NetworkShape, trains: bool = False):
        super().__init__(shape.blocks, shape.widths)
        self.shape, self.trains = shape, trains
        wide, places = shape.widths[-1], (shape.side // _STRIDE) ** 2
        self.fc = nn.Linear(wide * places, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING)
        self.requires_grad_(trains)
        self.features.weight.requires_grad_(False)

    def train(self, mode: bool = True) -> IdentityNetwork:
        """Switch modes; a frozen network stays in evaluation."""
        super().train(mode and self.trains)
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Return embeddings `(B, 512)` of images `(B, 3, H, W)` in [−1, 1]."""
        with torch.set_grad_enabled(self.trains and torch.is_grad_enabled()):
            side = self.shape.side
            x = F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False)
            return self.features(self.fc(super().forward(x).flatten(1)))


def shape_of(state: State) -> NetworkShape:
    """Return the shape of the network that a state belongs to; one of `NOT_THEIRS` where it is none of these."""
    stages = range(1, 5)
    blocks = tuple(len({key.split(".")[1] for key in state if key.startswith(f"layer{n}.")}) for n in stages)
    widths = tuple(state[f"layer{n}.0.conv2.weight"].shape[0] for n in stages)
    embedding, flat = state["fc.weight"].shape
    root = math.isqrt(flat // max(1, widths[-1]))
    if embedding != EMBEDDING or root * root * widths[-1] != flat or not flat:
        raise ValueError(f"its last layer is {embedding} × {flat}")
    return NetworkShape(blocks, widths, root * _STRIDE)


def network_from_file(name: str, trains: bool = False) -> IdentityNetwork:
    """Return the network that a file of its weights describes.

    Args:
        name: a path, or the name of a file in `training/pretrained/`.

    Raises:
        WeightsError: no such file, or none of an IResNet with 512 outputs.
    """
    key = "explicit_extractor_pretrained"
    file = find_weights(name)
    if file is None:
        raise WeightsError(
            f"{key}: there is no file `{name}`, also not in {PRETRAINED_DIR}; IID compares faces with what a face recogniser "
            "says of them: put the weights of an ArcFace IResNet there (address in its README.md), or name their path"
        )
    state = without_shared_prefix(IdentityNetwork(SHAPES["tiny"]).state_dict(), read_state(file))
    try:
        network = IdentityNetwork(shape_of(state), trains)
    except NOT_THEIRS as error:
        raise WeightsError(
            f"{key}: {file} does not hold the weights of an ArcFace IResNet with {EMBEDDING} outputs ({error}); "
            "take the file of its backbone"
        ) from error
    assign_state(network, state, str(file))
    return network
