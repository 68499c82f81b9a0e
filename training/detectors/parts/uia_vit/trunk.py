"""ViT (Dosovitskiy et al., ICLR 2021) from timm that also tells how far its patches attend to one another."""

from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor
from torch.nn import functional as F

from training.networks.pretrained import load_pretrained
from training.networks.weights import State

# Of the twelve blocks: after how many the patches are described, and from which on attention is looked at (to the last).
MIDDLE, FIRST_ATTENTIVE = 6, 7


def build_trunk(name: str, resolution: int, weights: str | None) -> Any:
    """Return timm's ViT `name` for square images of `resolution` pixels without its classifier.

    Weights of another resolution have their position embeddings interpolated.

    Raises:
        WeightsError: `weights`, a tag or a file, cannot be had.
    """
    trunk: Any = timm.create_model(name, pretrained=False, num_classes=0, img_size=resolution)

    def fitted(state: State) -> State:
        if "pos_embed" in state:
            size = list(trunk.patch_embed.grid_size)
            state = {**state, "pos_embed": resample_abs_pos_embed(state["pos_embed"], size)}
        return state

    load_pretrained(trunk, weights, name, ignore=(r"^head\.", r"^pre_logits\."), convert=fitted)
    return trunk


def walk(trunk: Any, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a ViT makes of images `(B, 3, H, W)`.

    Returns:
        last: tokens `(B, 1 + N, D)` after the last norm, CLS first.
        middle: tokens `(B, 1 + N, D)` between the blocks, before any norm.
        affinity: `(B, 1 + N, 1 + N)`, scaled products of queries and keys before the softmax, mean over the heads of the
            last blocks.
    """
    tokens = trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(image))))
    affinities = []
    middle = tokens
    for number, block in enumerate(trunk.blocks):
        if number == MIDDLE:
            middle = tokens
        if number < FIRST_ATTENTIVE:
            tokens = block(tokens)
        else:
            tokens, affinity = attend(block, tokens)
            affinities.append(affinity)
    return trunk.norm(tokens), middle, torch.stack(affinities).mean(dim=0)


def attend(block: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return a block's tokens `(B, N, D)` and the mean over its heads of the products that its softmax takes, `(B, N, N)`.

    The mean over heads of their products is the product over all channels, so that no head's matrix need be kept.
    """
    layer = block.attn
    query, key, value = layer.qkv(block.norm1(tokens)).chunk(3, dim=-1)
    affinity = (query @ key.mT).float() * (layer.scale / layer.num_heads)
    q, k, v = (x.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for x in (query, key, value))  # (B, H, N, D/H)
    attended = F.scaled_dot_product_attention(q, k, v, dropout_p=layer.attn_drop.p if layer.training else 0.0)
    attended = layer.proj_drop(layer.proj(attended.transpose(1, 2).flatten(2)))
    tokens = tokens + block.drop_path1(block.ls1(attended))
    return tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens)))), affinity
