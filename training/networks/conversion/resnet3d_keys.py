"""Names of 3-D ResNets: SlowFast's, which the field's detectors have, PyTorchVideo's, and ours."""

from __future__ import annotations

from training.networks.weights import State, rename

# What a published network has besides the trunk: a classifier, over Kinetics' actions or over real and fake.
OTHER_PARTS = (r"^head\.", r"^blocks\.6\.")
_LAYERS = {"a": "temporal", "b": "spatial", "c": "last"}
# PyTorchVideo counts blocks; its third pools frames.
_STAGES = {"2": "1", "3": "3", "4": "4", "5": "5"}


def _rules() -> list[tuple[str, str]]:
    rules = [
        (r"^s1\.pathway0_stem\.conv\.", "stem.conv."),
        (r"^s1\.pathway0_stem\.bn\.(?:0\.)?", "stem.norm."),
        (r"^blocks\.0\.(conv|norm)\.", r"stem.\1."),
    ]
    for stage, block in _STAGES.items():
        # FTCN's authors put a pooling layer behind some norms, which makes these number 0 of two.
        slowfast, theirs = rf"^s{stage}\.pathway0_res(\d+)\.", rf"^blocks\.{block}\.res_blocks\.(\d+)\."
        ours = rf"stage{stage}.\1."
        for letter, layer in _LAYERS.items():
            rules += [
                (rf"{slowfast}branch2\.{letter}\.", f"{ours}{layer}.conv."),
                (rf"{slowfast}branch2\.{letter}_bn\.(?:0\.)?", f"{ours}{layer}.norm."),
                (rf"{theirs}branch2\.(conv|norm)_{letter}\.", rf"{ours}{layer}.\2."),
            ]
        rules += [
            (rf"{slowfast}branch1\.", f"{ours}shortcut.conv."),
            (rf"{slowfast}branch1_bn\.(?:0\.)?", f"{ours}shortcut.norm."),
            (rf"{theirs}branch1_(conv|norm)\.", rf"{ours}shortcut.\2."),
        ]
    return rules


def trunk_keys(state: State, prefix: str = "") -> State:
    """Return the state with the trunk's keys under our names, each behind `prefix`; other keys as they are."""
    rules = [(pattern, prefix + replacement) for pattern, replacement in _rules()]
    return rename(rename(state, [(r"^resnet\.", "")]), rules)
