"""CLIP's visual tower (Radford et al., ICML 2021) as open_clip builds it: CLS and patch tokens, and what of it trains.

Shapes are data: open_clip's own model names, or JSON files of the same form in `training/config/backbone/`, which may also name
a `stem`: patches are then cut in two steps with a non-linearity between, so that a small tower sees energy, not only averages.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from common.errors import ConfigError, WeightsError
from common.io import read_json
from training.config.loader import CONFIG_DIR
from training.config.schema import Config, Triple
from training.networks.clip_names import OPENAI, local_names, openai_tower
from training.networks.conversion.clip_keys import tower_state
from training.networks.hub import fetched
from training.networks.low_rank import LoraConfig
from training.networks.tuning import Strategy, Tuning, strategy
from training.networks.tuning.effort import EffortKeys
from training.networks.weights import PRETRAINED_DIR, assign_state, find_weights, read_state

log = logging.getLogger("clipdeepfake")
BACKBONES = CONFIG_DIR / "backbone"
SHIPPED = Path(__file__).parent / "shipped"  # towers that come with the project, each with a card
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


class ClipConfig(Config):
    """Keys that every detector on a CLIP tower shares."""

    pretrained: str | None = Field("openai", description="an open_clip tag, a file or Hugging Face folder, or null")
    backbone_name: str = Field("ViT-L-14", description="open_clip's name, or a file of training/config/backbone/")
    resolution: int = Field(224, ge=8)
    mean: Triple = [0.48145466, 0.4578275, 0.40821073]
    std: Triple = [0.26862954, 0.26130258, 0.27577711]
    tuning: Tuning = Field("layernorm", description="what of the tower trains")
    lora: LoraConfig = Field(default_factory=LoraConfig)
    effort: EffortKeys = Field(default_factory=EffortKeys)
    grad_checkpointing: bool = Field(False, description="recompute the blocks in backward: less memory, more time")

    @field_validator("backbone_name")
    @classmethod
    def _usual_name(cls, value: str) -> str:
        """Take OpenAI's and Hugging Face's names too."""
        return openai_tower(value) or value


class ClipTower(nn.Module):
    """A CLIP visual tower that gives CLS and patch tokens, both after the last LayerNorm and before the projection.

    Attributes:
        width: D of the tokens. patch: side of a patch in pixels. depth: number of blocks.
    """

    def __init__(self, shape: Mapping[str, Any], quick_gelu: bool, grad_checkpointing: bool = False):
        super().__init__()
        from open_clip.model import CLIPVisionCfg, _build_vision_tower

        self.visual = _build_vision_tower(shape["embed_dim"], CLIPVisionCfg(**shape["vision_cfg"]), quick_gelu)
        if stem := shape.get("stem"):
            self.visual.conv1 = _stem(self.visual.conv1, stem["width"], stem["patch_size"])
        # Detectors stand on the tokens; the projection into the space shared with text would be dead weight.
        self.visual.proj = None
        self.width: int = self.visual.ln_post.normalized_shape[0]
        self.patch: int = self.visual.patch_size[0]
        self.depth = len(self.visual.transformer.resblocks)
        self.grad_checkpointing = grad_checkpointing
        self.frozen = False
        self.strategy, self.keys = Strategy(), None

    def train(self, mode: bool = True) -> ClipTower:
        """Switch modes; a frozen tower stays in evaluation."""
        return super().train(mode and not self.frozen)

    def grid(self, image: Tensor) -> tuple[int, int]:
        """Return rows and columns of patches of an image `(…, H, W)`."""
        return image.shape[-2] // self.patch, image.shape[-1] // self.patch

    def forward(self, image: Tensor, inject: Mapping[int, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return CLS `(B, D)` and patch tokens `(B, N, D)` of normalised images `(B, 3, H, W)`.

        Args:
            image: sides are multiples of the patch; other than the native size, position embeddings are interpolated.
            inject: residuals `(B, N, D)` that are added to the patch tokens before the block of that number.
        """
        if self.frozen and not inject:
            with torch.no_grad():
                return self._run(image, {})
        return self._run(image, inject or {})

    def _run(self, image: Tensor, inject: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        visual = self.visual
        patches = visual.conv1(image).flatten(2).transpose(1, 2)  # (B, N, D)
        cls = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        tokens = torch.cat([cls, patches], dim=1) + self._positions(self.grid(image)).to(patches.dtype)  # (B, 1 + N, D)
        tokens = visual.ln_pre(tokens)
        for number, block in enumerate(visual.transformer.resblocks):
            if number in inject:
                tokens = torch.cat([tokens[:, :1], tokens[:, 1:] + inject[number].to(tokens.dtype)], dim=1)
            if self.grad_checkpointing and self.training:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        tokens = visual.ln_post(tokens)
        return tokens[:, 0], tokens[:, 1:]

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Return position embeddings `(1 + N, D)` for a grid, bicubically interpolated from the native one."""
        embedding = self.visual.positional_embedding
        native = tuple(self.visual.grid_size)
        if grid == native:
            return embedding
        places = embedding[1:].reshape(1, *native, -1).permute(0, 3, 1, 2)
        places = F.interpolate(places.float(), size=grid, mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([embedding[:1], places.flatten(2)[0].T.to(embedding)])

    def tune(self, tuning: str, keys: Any = None, trained: bool = True) -> None:
        """Choose what trains, by the name of a strategy of `training/networks/tuning/`, and its keys where it has some.

        `trained` is False when the weights of the whole detector follow: nothing is then derived from those here.
        """
        self.requires_grad_(False)
        self.strategy, self.keys = strategy(tuning), keys
        self.strategy.apply(self.visual, keys, trained)
        self.frozen = tuning == "none"
        self.train(self.training)  # of what is frozen or new, too
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.parameters())
        log.info("CLIP tower, tuning %s: %s of %s parameters train (%.3g %%)", tuning, f"{trainable:,}", f"{total:,}",
                 100 * trainable / total)  # fmt: skip

    def constraints(self) -> dict[str, tuple[Tensor, float]]:
        """Return the tuning's losses on the weights themselves, by name, each with its weight in the overall loss."""
        return self.strategy.constraints(self.visual, self.keys)

    def constraint_weights(self) -> dict[str, float]:
        """Return the weights of `constraints` alone."""
        return self.strategy.constraint_weights(self.keys)

    def merge(self) -> None:
        """Fold what tuning put beside the matrices into them (for export); other towers stay as they are."""
        self.strategy.merge(self.visual)
        self.strategy = Strategy()


def _stem(whole: nn.Conv2d, width: int, side: int) -> nn.Sequential:
    """Return two convolutions that cut the patches of one: into squares of `side` pixels, and those into the patch."""
    rest = whole.kernel_size[0] // side
    return nn.Sequential(
        nn.Conv2d(whole.in_channels, width, side, side),
        nn.GELU(),
        nn.Conv2d(width, whole.out_channels, rest, rest, bias=False),
    )


def build_clip_tower(config: ClipConfig, pretrained: bool = True) -> ClipTower:
    """Return the tower that a configuration names, with its weights where asked, tuned as asked.

    Raises:
        ConfigError: unknown backbone, or a resolution that its patches do not divide.
        WeightsError: the weights cannot be had; says which file to put where.
    """
    shape, quick_gelu = _shape_of(config.backbone_name, config.pretrained)
    tower = ClipTower(shape, quick_gelu, config.grad_checkpointing)
    if config.resolution % tower.patch:
        near = round(config.resolution / tower.patch) * tower.patch
        raise ConfigError(
            f"resolution {config.resolution} is no multiple of {config.backbone_name}'s patch; use {near}"
        )
    if pretrained and config.pretrained is not None:
        _assign(tower, _weights_of(config.backbone_name, config.pretrained), config.backbone_name)
    if pretrained and config.pretrained is None and config.tuning != "full":
        log.warning(
            "pretrained is null and tuning is `%s`: most of the tower keeps the random weights it begins with; name weights "
            "(pretrained: openai), or train all of it (tuning: full)",
            config.tuning,
        )
    tower.tune(config.tuning, getattr(config, config.tuning, None), trained=pretrained)
    return tower


def _shape_of(name: str, tag: str | None) -> tuple[Mapping[str, Any], bool]:
    """Return the shape of a backbone and whether it uses quick-GELU, as OpenAI's weights need."""
    import open_clip

    own = BACKBONES / f"{name}.json"
    if own.exists():
        shape = read_json(own, ConfigError)
        return shape, shape.get("quick_gelu", True)
    shape = open_clip.get_model_config(name)
    if shape is None or not {"patch_size", "width"} <= shape["vision_cfg"].keys():
        there = [path.stem for path in sorted(BACKBONES.glob("*.json"))]
        known = ["ViT-B-16", "ViT-B-32", "ViT-L-14", "ViT-L-14-336", *there]
        raise ConfigError(f"backbone_name: there is no CLIP tower `{name}`; known among others: {', '.join(known)}")
    published = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    # Files of other people are mostly OpenAI's weights in another wrapping.
    return shape, bool(published.get("quick_gelu", False)) if published else True


def local_tower(backbone: str, asked: str) -> Path | None:
    """Return the file on this machine that `pretrained` means: itself, or the backbone's in training/pretrained/; else None."""
    given = find_weights(asked)
    if given:
        return given
    openai = asked == "openai" or openai_tower(asked) == backbone
    stems = [f"{backbone}-{asked}", *([backbone] if openai else [])]
    names = [f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES] + list(
        local_names(backbone) if openai else ()
    )
    found = next((found for name in names if (found := find_weights(PRETRAINED_DIR / name))), None)
    shipped = SHIPPED / f"{backbone}-{asked}.safetensors"
    return found or (shipped if shipped.is_file() else None)


def _weights_of(backbone: str, asked: str) -> Path:
    """Return the file that `pretrained` means: the one on this machine, or a download."""
    given = local_tower(backbone, asked)
    if given:
        return given
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(backbone)
    meant = openai_tower(asked)
    if meant and meant != backbone:
        raise WeightsError(
            f"pretrained: `{asked}` is the tower {meant}, and backbone_name is {backbone}; set backbone_name to {meant}, or "
            f"pretrained to openai for {backbone}'s own"
        )
    tag = "openai" if meant else asked
    if tag not in tags:
        raise WeightsError(
            f"pretrained: `{asked}` is neither a file nor a folder with weights (also not in {PRETRAINED_DIR}) nor a tag of "
            f"{backbone}; tags: {', '.join(tags) or 'none, it trains from scratch: write null'}"
        )
    stem = backbone if tag == "openai" else f"{backbone}-{tag}"
    try:
        return Path(fetched(lambda: open_clip.download_pretrained(open_clip.get_pretrained_cfg(backbone, tag))))
    except Exception as error:
        file, hub = OPENAI.get(backbone, ("", "")) if tag == "openai" else ("", "")
        source = (
            f" (OpenAI's {file}, or the weights of Hugging Face's {hub}; addresses in its README.md)" if file else ""
        )
        raise WeightsError(
            f"the weights `{tag}` of {backbone} cannot be fetched ({type(error).__name__}); put them as "
            f"{PRETRAINED_DIR / (stem + '.safetensors')} or .pt or .bin{source}, or write null"
        ) from error


def _name_of(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the tower whose shape a state has, among OpenAI's and those of training/config/backbone/."""
    for name in (*OPENAI, *(path.stem for path in sorted(BACKBONES.glob("*.json")))):
        shape = _shape_of(name, None)[0]
        vision, stem = shape["vision_cfg"], shape.get("stem")
        side = vision["image_size"] // vision["patch_size"]
        first = stem or vision
        wanted = [(first["width"], 3, first["patch_size"], first["patch_size"]), (1 + side * side, vision["width"])]
        keys = ("conv1.0.weight" if stem else "conv1.weight", "positional_embedding")
        there = [tuple(state[key].shape) for key in keys if key in state]
        depth = len({key.split(".")[2] for key in state if key.startswith("transformer.resblocks.")})
        if there == wanted and depth == vision["layers"]:
            return name
    return None


def _assign(tower: ClipTower, path: Path, backbone: str) -> None:
    """Load a file into a tower; WeightsError names the backbone that it is of, where that is a known one."""
    state = tower_state(read_state(path))
    try:
        assign_state(tower.visual, state, str(path))
    except WeightsError as error:
        name = _name_of(state)
        if name is None or name == backbone:
            raise
        raise WeightsError(
            f"{path} holds the tower {name}, and backbone_name is {backbone}; set backbone_name to {name}, or name "
            f"{backbone}'s weights with pretrained ({str(error).partition(': ')[2]})"
        ) from error
