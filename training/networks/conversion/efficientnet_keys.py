"""Names of published EfficientNet weights (`efficientnet_pytorch`'s, which DeepfakeBench uses too) under timm's."""

import re

from common.errors import WeightsError
from training.networks.weights import State, rename

# Blocks per stage of EfficientNet-B4; the original counts them through.
STAGES = (2, 4, 4, 6, 6, 8, 2)
# Sizes by their number of blocks.
_SIZES = {16: "B0", 23: "B1 or B2", 26: "B3", 32: "B4", 39: "B5", 45: "B6", 55: "B7", 61: "B8"}
_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
# Inside a block. The first stage's blocks do not expand, so that their norms and convolutions are one short.
_INNER = {
    "_depthwise_conv": "conv_dw",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
}
_EXPANDING = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
_NOT_EXPANDING = {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def timm_keys(state: State) -> State:
    """Return a state whose trunk has `efficientnet_pytorch`'s names, anywhere behind a prefix, under timm's.

    Raises:
        WeightsError: it is of another EfficientNet than B4.
    """
    numbers = {int(found.group(1)) for key in state if (found := re.search(r"(?:^|\.)_blocks\.(\d+)\.", key))}
    if numbers and numbers != set(range(sum(STAGES))):
        size = _SIZES.get(len(numbers)) if numbers == set(range(len(numbers))) else None
        theirs = f"EfficientNet-{size}'s with {len(numbers)} blocks" if size else "of a network with other blocks"
        raise WeightsError(
            f"they are {theirs}, and this is EfficientNet-B4 with {sum(STAGES)}; give efficientnet-b4-6ed6700e.pth"
        )
    blocks = [(stage, block) for stage, count in enumerate(STAGES) for block in range(count)]

    def renamed(key: str) -> str:
        inside = re.match(r"(.*?)_blocks\.(\d+)\.(_\w+)\.(.+)$", key)
        if inside is None:
            prefix, name, leaf = re.match(r"(.*?)(_[a-z]\w*)?(\.\w+)?$", key).groups("")  # type: ignore[union-attr]
            return prefix + _OUTER.get(name, name) + leaf
        prefix, number, part, leaf = inside.groups()
        stage, block = blocks[int(number)]
        names = _INNER | (_EXPANDING if stage else _NOT_EXPANDING)
        return f"{prefix}blocks.{stage}.{block}.{names.get(part, part)}.{leaf}"

    return {renamed(key): value for key, value in state.items()}


def detector_keys(state: State) -> State:
    """Return a DeepfakeBench state of a detector with `backbone` and `head`; with dropout the names are the same."""
    renamed = rename(state, [(r"^backbone\.efficientnet\.", "backbone."), (r"^backbone\.last_layer\.", "head.")])
    return timm_keys(renamed)
