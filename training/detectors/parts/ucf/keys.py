"""DeepfakeBench's names of UCF under ours."""

from training.networks.weights import State, rename

# Both trunks carry a classifier there that takes part in nothing.
UNUSED_KEYS = (r"^encoder_[fc]\.last_linear\.",)

_RULES = [
    (r"^encoder_f\.adjust_channel\.", "forgery.adjust."),
    (r"^encoder_c\.adjust_channel\.", "content.adjust."),
    (r"^encoder_f\.(?!last_linear\.)", "forgery.trunk."),
    (r"^encoder_c\.(?!last_linear\.)", "content.trunk."),
    (r"^con_gan\.dconv_up3\.", "decoder.steps.0."),
    (r"^con_gan\.dconv_up2\.", "decoder.steps.1."),
    (r"^con_gan\.dconv_up1\.", "decoder.steps.2."),
    (r"^con_gan\.conv_last\.", "decoder.paint."),
    (r"^block_sha\.conv2d\.", "common."),
    (r"^block_spe\.conv2d\.", "specific."),
    (r"^head_sha\.mlp\.", "common_head.mlp."),
    (r"^head_spe\.mlp\.", "specific_head.mlp."),
]


def ucf_keys(state: State) -> State:
    """Return a DeepfakeBench state under our names."""
    return rename(state, _RULES)
