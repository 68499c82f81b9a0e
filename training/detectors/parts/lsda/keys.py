"""DeepfakeBench's names of LSDA under ours."""

from training.networks.conversion.efficientnet_keys import timm_keys
from training.networks.weights import State, rename

# Trunks carry ImageNet's classifier there, and the real faces' encoder ArcFace's embedding; neither takes part in anything.
UNUSED_KEYS = (r"\.trunk\._fc\.", r"^real\.(?:fc|features)\.")

_RULES = [
    (r"^(?:model\.)?encoders_f\.(\d+)\.model\.", r"teachers.\1.trunk."),
    (r"^(?:model\.)?encoders_f\.(\d+)\.conv\.", r"teachers.\1.project."),
    (r"^(?:model\.)?student_encoder\.model\.", "student.trunk."),
    (r"^(?:model\.)?student_encoder\.conv\.", "student.project."),
    (r"^(?:model\.)?encoder_c\.model\.", "real.trunk."),
    (r"^(?:model\.)?encoder_c\.conv\.", "real.project."),
    (r"^(?:model\.)?encoder_c\.", "real."),
    (r"^(?:model\.)?fc_weights\.", "fusion."),
    (r"^(?:model\.)?mlp\.", "domain_head."),
    (r"^(?:model\.)?binary_classifier\.", "head."),
]


def lsda_keys(state: State) -> State:
    """Return a DeepfakeBench state under our names."""
    named = rename(state, _RULES)
    trunks = {key: value for key, value in named.items() if "._" in key}
    return {key: value for key, value in named.items() if key not in trunks} | timm_keys(trunks)


def teachers_in(state: State) -> int:
    """Return how many teachers a state holds, under our names or DeepfakeBench's."""
    return len({key.split(".")[1] for key in rename(state, _RULES) if key.startswith("teachers.")})
