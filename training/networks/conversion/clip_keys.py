"""CLIP visual towers under other names: Hugging Face's layout, and whole CLIP models.

Hugging Face keeps query, key and value apart; open_clip keeps them in one `in_proj`. Nothing else differs but names.
"""

import re

import torch

from training.networks.weights import State

# Hugging Face's name inside the vision model -> open_clip's inside the visual tower.
_PLAIN = (
    (r"^embeddings\.class_embedding$", "class_embedding"),
    (r"^embeddings\.patch_embedding\.weight$", "conv1.weight"),
    (r"^embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^pre_layrnorm\.(weight|bias)$", r"ln_pre.\1"),
    (r"^post_layernorm\.(weight|bias)$", r"ln_post.\1"),
    (r"^encoder\.layers\.(\d+)\.layer_norm([12])\.(weight|bias)$", r"transformer.resblocks.\1.ln_\2.\3"),
    (r"^encoder\.layers\.(\d+)\.self_attn\.out_proj\.(weight|bias)$", r"transformer.resblocks.\1.attn.out_proj.\2"),
    (r"^encoder\.layers\.(\d+)\.mlp\.fc1\.(weight|bias)$", r"transformer.resblocks.\1.mlp.c_fc.\2"),
    (r"^encoder\.layers\.(\d+)\.mlp\.fc2\.(weight|bias)$", r"transformer.resblocks.\1.mlp.c_proj.\2"),
)
_QUERY = re.compile(r"^encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)$")
_CLASS_TOKEN = re.compile(r"^(.*?)(embeddings\.)?class_embedding$")
# Buffers that some versions of the libraries store and no computation needs.
_IGNORED = re.compile(r"position_ids$|^(input_resolution|output_dim)$")


def from_hugging_face(state: State) -> State:
    """Return the tower's tensors under open_clip's names.

    Args:
        state: a vision model's tensors, names beginning with `embeddings.`, `encoder.`, `pre_layrnorm.`, `post_layernorm.`.

    Raises:
        KeyError: a query projection stands without its key or value.
    """
    converted: State = {}
    for key, value in state.items():
        query = _QUERY.match(key)
        if query:
            parts = [state[key.replace("q_proj", f"{name}_proj")] for name in "qkv"]
            name = f"transformer.resblocks.{query.group(1)}.attn.in_proj_{query.group(2)}"
            converted[name] = torch.cat(parts)
        elif not re.search(r"self_attn\.[kv]_proj\.", key) and not _IGNORED.search(key):
            converted[_rename(key)] = value
    return converted


def _rename(key: str) -> str:
    for pattern, name in _PLAIN:
        if re.match(pattern, key):
            return re.sub(pattern, name, key)
    return key


def tower_state(state: State) -> State:
    """Return the visual tower inside a state dict of any known layout, without its projection, under open_clip's names.

    Known under any prefix (`visual.`, `vision_model.`, DeepfakeBench's `backbone.`, GenD's `feature_extractor.vision_model.`):
    open_clip's and OpenAI's whole model or bare tower; Hugging Face's whole model or vision model.
    """
    found = next((m for m in map(_CLASS_TOKEN.match, state) if m), None)
    if found is None:
        return state
    state = _below(state, found.group(1))
    if found.group(2):
        return from_hugging_face(state)
    return {key: value for key, value in state.items() if key != "proj" and not _IGNORED.search(key)}


def _below(state: State, prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
