"""FTCN's second stage: a transformer over the moments of a clip, and its published names."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from common.errors import ConfigError
from training.networks.weights import State, rename

_LAYER = r"^head\.time_T\.transformer\.layers\.(\d+)\."
_NAMES = [
    (r"^head\.time_T\.pos_embedding$", "transformer.positions"),
    (r"^head\.time_T\.cls_token$", "transformer.cls_token"),
    (_LAYER + r"0\.fn\.norm\.", r"transformer.blocks.\1.norm1."),
    (_LAYER + r"0\.fn\.fn\.to_qkv\.", r"transformer.blocks.\1.attn.qkv."),
    (_LAYER + r"0\.fn\.fn\.to_out\.0\.", r"transformer.blocks.\1.attn.proj."),
    (_LAYER + r"1\.fn\.norm\.", r"transformer.blocks.\1.norm2."),
    (_LAYER + r"1\.fn\.fn\.net\.0\.", r"transformer.blocks.\1.mlp.fc1."),
    (_LAYER + r"1\.fn\.fn\.net\.3\.", r"transformer.blocks.\1.mlp.fc2."),
    (r"^head\.time_T\.mlp_head\.0\.", "transformer.norm."),
    (r"^head\.time_T\.mlp_head\.1\.", "head."),
]
# Where a state tells how long its clips were: published, and ours.
POSITIONS = ("head.time_T.pos_embedding", "transformer.positions")


class TemporalTransformer(nn.Module):
    """Moments `(B, T, D)` → what a class token has gathered of them, normalised, `(B, D)`.

    Args:
        width: D. moments: the largest T. depth, heads, hidden: blocks, heads of each, and the width of their MLPs.
        dropout: of the tokens, and of what attention and MLPs add.
    """

    def __init__(self, width: int, moments: int, depth: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, moments + 1, width))
        self.dropout = nn.Dropout(dropout)
        shape: dict[str, Any] = {"mlp_ratio": hidden / width, "proj_drop": dropout, "norm_layer": nn.LayerNorm}
        self.blocks = nn.Sequential(*(Block(width, heads, **shape) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, moments: Tensor) -> Tensor:
        most = self.positions.shape[1] - 1
        if moments.shape[1] > most:
            raise ConfigError(f"clips of {moments.shape[1]} frames: this network was built with clip_size {most}")
        tokens = torch.cat([self.cls_token.expand(moments.shape[0], -1, -1).to(moments.dtype), moments], dim=1)
        tokens = self.dropout(tokens + self.positions[:, : tokens.shape[1]])
        return self.norm(self.blocks(tokens)[:, 0])


def transformer_keys(state: State) -> State:
    """Return the state with the transformer's and the classifier's keys under our names."""
    return rename(state, _NAMES)
