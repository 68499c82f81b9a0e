"""Low-rank adaptation (Hu et al., ICLR 2022) of a CLIP tower through peft, fused attention included.

peft adapts `nn.MultiheadAttention` by adding the update to the frozen matrix before every forward and subtracting it after,
which lets rounding errors pile up in weights that are said to be frozen, and makes new parameters each time. The fused
attention is therefore taken apart into linear layers first, which peft adapts exactly, and put together again when merged.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from training.config.schema import Positive, Section


class LoraConfig(Section):
    """Low-rank updates of every attention and MLP matrix of the tower."""

    rank: int = Field(8, ge=1)
    alpha: Positive = Field(16.0, description="updates are scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1)


class LinearAttention(nn.Module):
    """Multi-head self-attention out of two linear layers; same numbers and call as the `nn.MultiheadAttention` it replaces."""

    def __init__(self, fused: nn.MultiheadAttention):
        super().__init__()
        self.heads = fused.num_heads
        assert fused.in_proj_weight is not None
        self.qkv = nn.Linear(fused.embed_dim, 3 * fused.embed_dim)
        self.qkv.weight, self.qkv.bias = fused.in_proj_weight, fused.in_proj_bias
        self.out = nn.Linear(fused.embed_dim, fused.embed_dim)
        self.out.weight, self.out.bias = fused.out_proj.weight, fused.out_proj.bias

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Return attended tokens `(B, N, D)` of tokens `(B, N, D)`; query, key and value are the same tokens."""
        parts = self.qkv(query).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, heads, N, d)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=attn_mask)
        return self.out(mixed.transpose(1, 2).flatten(2)), None

    def fused(self) -> nn.MultiheadAttention:
        """Return the module that this one replaced, with the weights as they are now."""
        attention = nn.MultiheadAttention(self.qkv.in_features, self.heads, batch_first=True)
        for name, value in (("in_proj_weight", self.qkv.weight), ("in_proj_bias", self.qkv.bias)):
            setattr(attention, name, value)
        attention.out_proj.weight, attention.out_proj.bias = self.out.weight, self.out.bias
        return attention.to(self.qkv.weight.device).train(self.training)


def add_low_rank(visual: Any, settings: LoraConfig) -> None:
    """Put low-rank updates, zero at first, beside the matrices of all blocks; only they train."""
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    for block in visual.transformer.resblocks:
        block.attn = LinearAttention(block.attn)
    config = PeftConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # any number does
        lora_dropout=settings.dropout,
        target_modules=["attn.qkv", "attn.out", "mlp.c_fc", "mlp.c_proj"],
    )
    inject_adapter_in_model(config, visual)
    for name, parameter in visual.named_parameters():
        parameter.requires_grad_("lora_" in name)


def merge_low_rank(visual: Any) -> None:
    """Add the updates to the matrices they stand beside: the tower is a plain one again, with plain names."""
    for block in visual.transformer.resblocks:
        for parent, name in ((block.attn, "qkv"), (block.attn, "out"), (block.mlp, "c_fc"), (block.mlp, "c_proj")):
            adapted = getattr(parent, name)
            adapted.merge(safe_merge=True)
            setattr(parent, name, adapted.get_base_layer())
        block.attn = block.attn.fused()
    if hasattr(visual, "peft_config"):
        del visual.peft_config
