"""TALL's layout of a clip in one picture, and the Swin that reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.pretrained import load_pretrained
from training.networks.weights import State

# What timm calls a Swin of these widths and depths.
_NAMES: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "swin_tiny_patch4_window7_224",
    (96, (2, 2, 18, 2)): "swin_small_patch4_window7_224",
    (128, (2, 2, 18, 2)): "swin_base_patch4_window7_224",
    (192, (2, 2, 18, 2)): "swin_large_patch4_window7_224",
}
# Of the original weights: what is computed here, and a classifier of other classes.
_NOT_OURS = (r"^head\.", r"attn_mask$", r"relative_position_index$")
_TABLE = "relative_position_bias_table"


def thumbnail(clips: Tensor, rows: int) -> Tensor:
    """Lay the T frames of clips `(B, T, C, H, W)` out in `rows` rows, in reading order; return pictures `(B, C, H, W)`.

    Each frame is brought to its share of the picture by means over `rows` × T / `rows` pixels.
    """
    columns = clips.shape[1] // rows
    small = F.avg_pool2d(clips.flatten(0, 1), (rows, columns))  # (B·T, C, H / rows, W / columns)
    grid = small.unflatten(0, (clips.shape[0], rows, columns))
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def frame_places(embedding: Tensor, rows: int, grid: tuple[int, int]) -> Tensor:
    """Return, for every patch of a thumbnail, the embedding `(1, T, D)` of the frame it belongs to: `(1, *grid, D)`."""
    height, width = grid
    columns = embedding.shape[1] // rows
    frames = embedding.unflatten(1, (rows, columns))
    return frames.repeat_interleave(height // rows, 1).repeat_interleave(width // columns, 2)


class FrameSwin(nn.Module):
    """A Swin transformer whose patches know, by a learnt embedding, which frame of the thumbnail they are of."""

    def __init__(self, swin: SwinTransformer, frames: int, rows: int, places: bool = True):
        super().__init__()
        self.swin, self.rows = swin, rows
        self.frame_pos_embed = nn.Parameter(torch.zeros(1, frames, swin.embed_dim)) if places else None
        if self.frame_pos_embed is not None:
            nn.init.trunc_normal_(self.frame_pos_embed, std=0.02)

    def forward(self, clips: Tensor) -> Tensor:
        """Return features `(B, D)` of normalised clips `(B, T, 3, H, W)`."""
        swin = self.swin
        x = swin.patch_embed(thumbnail(clips, self.rows))  # (B, h, w, D / 8)
        if self.frame_pos_embed is not None:
            x = x + frame_places(self.frame_pos_embed, self.rows, (x.shape[1], x.shape[2])).to(x.dtype)
        return swin.norm(swin.layers(x)).mean((1, 2))


def begin_with(swin: SwinTransformer, depths: Sequence[int], pretrained: str | None) -> None:
    """Load ImageNet weights of windows of any size, in timm's form or the original's.

    Raises:
        WeightsError: they cannot be had, or are another network's.
    """
    name = _NAMES.get((swin.embed_dim, tuple(depths)), _NAMES[128, (2, 2, 18, 2)])
    load_pretrained(swin, pretrained, name, ignore=_NOT_OURS, convert=lambda state: fitted(timm_names(state), swin))


def timm_names(state: State) -> State:
    """Return a state in which stages begin with their reduction, as in timm, where the original's end with it."""
    if not any(re.search(r"(^|\.)layers\.0\.downsample\.", key) for key in state):
        return state

    def later(found: re.Match) -> str:
        return f"layers.{int(found[1]) + 1}.downsample."

    return {re.sub(r"\blayers\.(\d+)\.downsample\.", later, key): value for key, value in state.items()}


def fitted(state: State, swin: nn.Module) -> State:
    """Return a state whose tables of relative positions are stretched bilinearly to the windows of `swin`."""
    own = swin.state_dict()
    return {
        key: _stretched(value, own[key]) if key.endswith(_TABLE) and key in own else value
        for key, value in state.items()
    }


def _stretched(table: Tensor, like: Tensor) -> Tensor:
    """Return a table `(s², heads)` in the size of another of as many heads."""
    sides = [round(len(each) ** 0.5) for each in (table, like)]
    square = table.T.unflatten(1, (sides[0], sides[0]))[None]
    return F.interpolate(square, size=(sides[1], sides[1]), mode="bilinear").flatten(2)[0].T
