"""DeepfakeBench's names of Multi-attention under ours."""

from training.networks.conversion.efficientnet_keys import detector_keys
from training.networks.weights import State, rename

# A constant there: the border that attention is kept off.
UNUSED_KEYS = (r"^attention_generation\.mask$",)

_ATTENTION, _TEXTURE = "attention.layers.", "texture."
_RULES = [
    (r"^attention_generation\.conv_extract\.", f"{_ATTENTION}0."),
    (r"^attention_generation\.bn1\.", f"{_ATTENTION}1."),
    (r"^attention_generation\.conv2\.", f"{_ATTENTION}3."),
    (r"^attention_generation\.bn2\.", f"{_ATTENTION}4."),
    (r"^texture_enhance\.conv0\.", f"{_TEXTURE}enter."),
    (r"^texture_enhance\.bn1\.", f"{_TEXTURE}dense.0.0."),
    (r"^texture_enhance\.conv1\.", f"{_TEXTURE}dense.0.2."),
    (r"^texture_enhance\.bn2\.", f"{_TEXTURE}dense.1.0."),
    (r"^texture_enhance\.conv2\.", f"{_TEXTURE}dense.1.2."),
    (r"^texture_enhance\.bn3\.", f"{_TEXTURE}dense.2.0."),
    (r"^texture_enhance\.conv3\.", f"{_TEXTURE}dense.2.2."),
    (r"^texture_enhance\.bn4\.", f"{_TEXTURE}leave.0.0."),
    (r"^texture_enhance\.conv_last\.", f"{_TEXTURE}leave.0.2."),
    (r"^texture_enhance\.bn_last\.", f"{_TEXTURE}leave.1."),
    (r"^projection_local\.", "local_features."),
    (r"^projection_final\.", "global_features."),
    (r"^ensemble_classifier_fc\.", "classifier."),
]


def multi_attention_keys(state: State) -> State:
    """Return a DeepfakeBench state under our names."""
    return detector_keys(rename(state, _RULES))
