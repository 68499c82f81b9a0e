"""DeepfakeBench's names of F³-Net, which there is the stream of frequency components alone."""

import torch

from training.networks.conversion.xception_keys import LAST_LINEAR
from training.networks.weights import State, rename

_BANDS = range(4)


def f3net_keys(state: State) -> State:
    """Return a DeepfakeBench state under our names; its four filters become one tensor each for masks and learned parts."""
    if "FAD_head._DCT_all" not in state:
        return state
    for ours, theirs in (("band", "base"), ("learned", "learnable")):
        state[f"streams.fad.view.{ours}"] = torch.stack([state.pop(f"FAD_head.filters.{i}.{theirs}") for i in _BANDS])
    rules = [
        (r"^FAD_head\._DCT_all$", "streams.fad.view.dct"),
        (r"^FAD_head\._DCT_all_T$", "streams.fad.view.inverse"),
        (LAST_LINEAR.format(trunk="backbone"), "streams.fad.head."),
        (r"^backbone\.(?!adjust_channel\.)", "streams.fad.trunk."),
    ]
    return rename(state, rules)
