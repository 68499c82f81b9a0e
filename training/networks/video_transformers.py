"""Video transformers as Hugging Face's library builds them: of any size by keys, with weights from its hub or this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import DataError, WeightsError
from training.config.schema import BackboneConfig, Config
from training.networks.hub import fetched
from training.networks.pretrained import local_trunk
from training.networks.weights import PRETRAINED_DIR, State, assign_state, read_state, rename

_MOST = 4096
_PER_HEAD = 64
_FILES = ("model.safetensors", "pytorch_model.bin")
# `owner/name`, as the hub has them; what ends like a file of weights is one that is not there.
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+(?<!\.safetensors)(?<!\.bin)(?<!\.pth)(?<!\.pt)", re.ASCII)


@dataclass(frozen=True)
class Architecture:
    """One of the library's networks.

    Attributes:
        name: of its classes there, `<name>Config` and `<model>`.
        model: the class that gives tokens. prefix: how its names begin in published files.
        beside: regular expressions of what those files hold besides (classifiers, decoders, text towers).
        renamed: names of published files that the library has changed since, as `(pattern, replacement)`.
        example: weights on the hub.
    """

    name: str
    model: str
    prefix: str
    beside: tuple[str, ...]
    example: str
    renamed: tuple[tuple[str, str], ...] = ()

    def names(self, state: State, to: str = "") -> State:
        """Return a state with the names that published files give the network as ours, which begin with `to`."""
        return rename(rename(state, [(rf"^(backbone\.)?{self.prefix}\.", to)]), self.renamed)


class VideoShape(BackboneConfig):
    """Shape of the trunk: a ViT's, by default the base model's."""

    mode: Literal["original"] | None = None
    width: int = Field(768, ge=4, le=_MOST, description="channels of a token")
    depth: int = Field(12, ge=1, le=_MOST, description="blocks")
    heads: int | None = Field(None, ge=1, le=_MOST, description="attention heads; null: one per 64 channels")
    patch: int = Field(16, ge=1, le=_MOST, description="side of a patch, in pixels")

    @model_validator(mode="after")
    def _fits_together(self) -> VideoShape:
        if (self.inc, self.num_classes, self.dropout) != (3, 2, 0):
            raise ValueError("this detector takes inc 3, num_classes 2 and dropout 0")
        if self.width % self.number_of_heads:
            raise ValueError(f"width {self.width} is not divided by {self.number_of_heads} heads; set heads")
        return self

    @property
    def number_of_heads(self) -> int:
        """Attention heads of a block."""
        return self.heads or max(1, self.width // _PER_HEAD)


class VideoTransformerConfig(Config):
    """Keys that detectors on a video transformer share."""

    pretrained: str | None = Field(None, description="a name of Hugging Face's hub, a file or folder, or null")
    backbone_name: None = Field(None, description="these have one trunk, of the size that backbone_config says")
    backbone_config: VideoShape = Field(default_factory=VideoShape)
    resolution: int = Field(224, ge=8, le=8192)
    video_mode: Literal[True] = True  # type: ignore[assignment]
    clip_size: int = Field(8, ge=1, le=_MOST, description="frames per clip")
    grad_checkpointing: bool = Field(False, description="recompute the blocks in backward: less memory, more time")

    @model_validator(mode="after")
    def _patches_fill_the_frame(self) -> VideoTransformerConfig:
        patch = self.backbone_config.patch
        if self.resolution % patch:
            near = max(1, round(self.resolution / patch)) * patch
            raise ValueError(f"resolution {self.resolution} is no multiple of the patch {patch}; use {near}")
        return self


def build_video_transformer(
    architecture: Architecture, config: VideoTransformerConfig, pretrained: bool, **own: Any
) -> Any:
    """Return a network for clips of a configuration's frames, with its weights where asked.

    Args:
        own: what only this architecture's configuration has, by the library's names.

    Raises:
        WeightsError: the weights cannot be had or are another network's; says which file to put where, or which keys to set.
    """
    import transformers

    shape = config.backbone_config
    sizes = {
        "image_size": config.resolution, "patch_size": shape.patch, "hidden_size": shape.width,
        "num_hidden_layers": shape.depth, "num_attention_heads": shape.number_of_heads, "intermediate_size": 4 * shape.width,
    }  # fmt: skip
    settings = getattr(transformers, f"{architecture.name}Config")(**sizes, **own)
    trunk = getattr(transformers, architecture.model)(settings)
    if config.grad_checkpointing:
        trunk.gradient_checkpointing_enable({"use_reentrant": False})
    if pretrained and config.pretrained is not None:
        _load(trunk, architecture, config.pretrained)
    # The library hands networks out in evaluation mode.
    return trunk.train()


def check_clip(image: Tensor, config: VideoTransformerConfig) -> None:
    """Raise DataError where clips are not of the size that a network was built for, which would mix up places and times."""
    wanted = (config.clip_size, 3, config.resolution, config.resolution)
    if tuple(image.shape[1:]) != wanted:
        raise DataError(
            f"{config.model_name} is built for clips {wanted} (frames, channels, height, width), and was given "
            f"{tuple(image.shape[1:])}; set clip_size and resolution to what the clips have"
        )


def _load(trunk: nn.Module, architecture: Architecture, asked: str) -> None:
    """Load the weights that `pretrained` names, all of them or none."""
    path = local_trunk(asked) or _download(architecture, asked)
    own, state = trunk.state_dict(), read_state(path)

    def fitted(state: State) -> State:
        return _stretched(architecture.names(state), own)

    try:
        assign_state(trunk, state, str(path), may_ignore=(*architecture.beside, r"position_ids$"), convert=fitted)
    except WeightsError as error:
        here, there = _shape_of(own), _shape_of(architecture.names(state))
        if there is None or there == here:
            raise
        keys = ", ".join(f"backbone_config.{key}={value}" for key, value in there.items())
        raise WeightsError(f"{path} holds a network of another size: set {keys}, or name other weights") from error


def _shape_of(state: Mapping[str, Tensor]) -> dict[str, int] | None:
    """Return width, depth and patch of a network that a state under our names is of; None where it does not tell."""
    filters = next((value for key, value in state.items() if re.search(r"patch_embeddings?\..*weight$", key)), None)
    blocks = {int(found[1]) for key in state if (found := re.match(r"encoder\.layers?\.(\d+)\.", key))}
    if filters is None or filters.ndim < 4 or not blocks:
        return None
    return {"width": filters.shape[0], "depth": 1 + max(blocks), "patch": filters.shape[-1]}


def _stretched(state: State, own: Mapping[str, Tensor]) -> State:
    """Return a state whose position embeddings are interpolated to another frame size, those of time to other clips."""
    done = dict(state)
    for key in state.keys() & own.keys():
        value, wanted = state[key], own[key]
        if value.shape == wanted.shape or value.shape[-1] != wanted.shape[-1]:
            continue
        if key == "embeddings.time_embeddings":  # (1, T, D); the nearest, as the authors do
            done[key] = F.interpolate(value.mT, size=wanted.shape[1], mode="nearest").mT
        elif key.startswith("embeddings.position_embedding"):  # (1, 1 + N, D) or (1 + N, D), CLS first
            rows = value.reshape(-1, value.shape[-1])
            before, after = (round((t.numel() // t.shape[-1] - 1) ** 0.5) for t in (value, wanted))
            grid = rows[1:].T.reshape(1, -1, before, before).float()
            grid = F.interpolate(grid, size=(after, after), mode="bicubic", antialias=True, align_corners=False)
            done[key] = rows.new_empty(wanted.shape).copy_(_behind(rows[:1], grid).reshape(wanted.shape))
    return done


def _behind(first: Tensor, grid: Tensor) -> Tensor:
    """Return `(1 + N, D)`: a row, and behind it those of a grid `(1, D, h, w)`."""
    import torch

    return torch.cat([first.float(), grid.flatten(2)[0].T])


def _download(architecture: Architecture, asked: str) -> Path:
    """Return the file of a name on the hub, from the library's cache or the network."""
    name = asked.removeprefix("hf-hub:").removeprefix("hf_hub:")
    if not _HUB_NAME.fullmatch(name):
        raise WeightsError(
            f"pretrained: `{asked}` is neither a file nor a folder with weights (also not in {PRETRAINED_DIR}) nor a name of "
            f"Hugging Face's hub such as `{architecture.example}`; write one of these, or null to train from scratch"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def ask() -> str:
        try:
            return hf_hub_download(name, _FILES[0])
        except EntryNotFoundError:  # older ones are only there in the other form
            return hf_hub_download(name, _FILES[1])

    try:
        return Path(fetched(ask))
    except Exception as error:  # what a missing network raises depends on the libraries underneath
        raise WeightsError(
            f"the weights `{asked}` cannot be fetched ({type(error).__name__}); put its {' or '.join(_FILES)} as "
            f"{PRETRAINED_DIR / Path(name).name}.safetensors or .bin (or its folder, as {PRETRAINED_DIR / Path(name).name}), "
            "or write null"
        ) from error
