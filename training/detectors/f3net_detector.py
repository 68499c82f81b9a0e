"""F³-Net: an image split into frequency components, and statistics of its windows' frequencies, in two streams.

Qian et al., "Thinking in Frequency: Face Forgery Detection by Mining Frequency-aware Clues", ECCV 2020. FAD: the image seen
through three learned bands of its DCT, and through all of them. LFS: how strong six bands are in the window around every place.
Each view has its own Xception; after blocks 7 and 12 MixBlocks let them read from each other; both last maps are classified
together by cross-entropy.

What differs from the paper: 256 pixels instead of 299; statistics are of the grey image; the fourth component, which is of the
public implementations. What DeepfakeBench does otherwise: the FAD stream alone (`branches: fad`), and its weights are so;
weights of fewer streams load, and give the detector those. It trains with Adam (2e-4) in batches of 32.

Input 256×256; the components' filters are tied to the resolution. 45.5 M parameters, 13.1 G multiply-adds
per image at that size (FAD alone: 21.1 M, 6.5 G).
"""

import logging
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from timm.models.xception import Xception
from torch import Tensor, nn

from training.batch import Batch
from training.config.schema import Config
from training.detectors.base import Detector, DetectorCard, Losses, Prediction
from training.detectors.parts.f3net.cross_stream import MixBlock
from training.detectors.parts.f3net.frequency_bands import FrequencyComponents, LocalStatistics
from training.detectors.parts.f3net.keys import f3net_keys
from training.detectors.registry import register_detector
from training.loss.classification import cross_entropy, fake_probability
from training.networks.conversion.xception_keys import UNUSED_KEYS
from training.networks.weights import State
from training.networks.xception_stages import (
    MIDDLE,
    Head,
    blocks,
    build_xception,
    exit_flow,
    middle_size,
    stem_first,
    stem_second,
)

log = logging.getLogger("clipdeepfake")

_STREAMS = {"fad": ("fad",), "lfs": ("lfs",), "both": ("fad", "lfs"), "mix": ("fad", "lfs")}
# First and last block of each section of the trunk, and the channels at its end, where streams are mixed.
_SECTIONS = ((1, 7, MIDDLE), (8, 12, 1024))


class F3NetConfig(Config):
    """F³-Net's own keys."""

    loss_func: Literal["cross_entropy"] = "cross_entropy"
    branches: Literal["fad", "lfs", "both", "mix"] = Field(
        "mix", description="one stream, both side by side, or both with MixBlocks (the paper)"
    )

    @model_validator(mode="after")
    def _streams_meet(self) -> "F3NetConfig":
        if len(_STREAMS[self.branches]) == 2 and middle_size(self.resolution) != _statistics_size(self.resolution):
            raise ValueError(
                f"at resolution {self.resolution} the two streams' maps differ in size; take a multiple of 32"
            )
        return self


class Stream(nn.Module):
    """A view of the image, an Xception on it, and this stream's share of the classifier."""

    def __init__(self, view: nn.Module, trunk: Xception, head: Head):
        super().__init__()
        self.view, self.trunk, self.head = view, trunk, head


@register_detector(F3NetConfig)
class F3NetDetector(Detector):
    """Frequency components and local statistics → two Xceptions that read from each other → class."""

    card = DetectorCard(
        title="F3Net",
        kind="frequency",
        paper="Thinking in Frequency: Face Forgery Detection by Mining Frequency-aware Clues",
        year=2020,
        url="https://arxiv.org/abs/2007.09355",
        parity="DeepfakeBench: outputs, loss and gradient norm (its one stream)",
    )
    unused_keys = UNUSED_KEYS

    config: F3NetConfig

    def __init__(self, config: F3NetConfig, data_info: Any = None, pretrained: bool = True):
        super().__init__(config, data_info, pretrained)
        self.streams = nn.ModuleDict({name: self._stream(name, pretrained) for name in _STREAMS[config.branches]})
        self.mix = nn.ModuleList([MixBlock(channels) for *_, channels in _SECTIONS] if config.branches == "mix" else [])

    def _stream(self, name: str, pretrained: bool) -> Stream:
        view = FrequencyComponents(self.config.resolution) if name == "fad" else LocalStatistics()
        # The key `inc` speaks of the image; this trunk sees what the view makes of it.
        backbone = self.config.backbone_config.model_copy(update={"inc": view.channels})
        config = self.config.model_copy(update={"backbone_config": backbone})
        trunk = build_xception(config, pretrained, inc=view.channels)
        if name == "lfs":
            trunk.conv1.stride = (1, 1)  # the windows' stride has halved the picture already
        return Stream(view, trunk, Head(config))

    def forward(self, batch: Batch, inference: bool = False) -> Prediction:
        maps = self.maps(batch["image"])
        cls = torch.stack([stream.head(m.mean((2, 3))) for stream, m in zip(self.parts, maps, strict=True)]).sum(0)
        return {"cls": cls, "prob": fake_probability(cls), "feat": torch.cat(maps, dim=1)}

    def maps(self, image: Tensor) -> list[Tensor]:
        """Return each stream's last map `(B, 2048, H/32, W/32)`, activated, of normalised images."""
        seen = {"fad": image, "lfs": image * self.std + self.mean}
        flow = [part.view(seen[name]) for name, part in zip(self.streams, self.parts, strict=True)]
        flow = [stem_second(part.trunk, stem_first(part.trunk, x)) for part, x in zip(self.parts, flow, strict=True)]
        for section, (first, last, _) in enumerate(_SECTIONS):
            flow = [blocks(part.trunk, x, first, last) for part, x in zip(self.parts, flow, strict=True)]
            if self.mix:
                flow = list(self.mix[section](*flow))
        return [exit_flow(part.trunk, x).relu() for part, x in zip(self.parts, flow, strict=True)]

    @property
    def parts(self) -> list[Stream]:
        """The streams in order."""
        return [part for part in self.streams.values() if isinstance(part, Stream)]

    def get_losses(self, batch: Batch, prediction: Prediction) -> Losses:
        return self.summed({"cls": cross_entropy(prediction["cls"], batch["label"])})

    def convert_keys(self, state: State) -> State:
        return f3net_keys(state)

    def adapt_to(self, state: State) -> None:
        held = {key.split(".")[1] for key in self.convert_keys(dict(state)) if key.startswith("streams.")}
        surplus = [name for name in self.streams if name not in held]
        if not held or not surplus:
            return
        log.warning("the weights have no stream `%s`, and neither has the detector now", "`, `".join(surplus))
        for name in surplus:
            del self.streams[name]
        self.mix = nn.ModuleList()


def _statistics_size(resolution: int) -> int:
    """Return the side of the statistics stream's maps between block 3 and block 12."""
    side = (resolution - 2) // 2 + 1 - 4  # windows, then the stem at stride 1
    for _ in range(3):
        side = (side - 1) // 2 + 1
    return side
