"""DeepfakeBench's and the authors' names of RECCE under ours."""

from training.networks.weights import State, rename

# The classifier of the trunk's ImageNet weights; DeepfakeBench also keeps a second trunk that takes part in nothing.
UNUSED_KEYS = (r"^backbone\.", r"^encoder\.fc\.", r"^model\.encoder\.fc\.")

_RULES = [
    (r"^decoder1\.", "decoder.up.0."),
    (r"^decoder2\.", "decoder.refine.0."),
    (r"^decoder3\.", "decoder.up.1."),
    (r"^decoder4\.", "decoder.refine.1."),
    (r"^decoder5\.", "decoder.up.2."),
    (r"^decoder6\.0\.", "decoder.paint."),
    (r"^reasoning\.va_embedding\.", "graph.place."),
    (r"^reasoning\.va_gated_b\.0\.", "graph.scales.0.gate."),
    (r"^reasoning\.va_gated_c\.0\.", "graph.scales.1.gate."),
    (r"^reasoning\.vb_embedding\.", "graph.scales.0.embed."),
    (r"^reasoning\.vc_embedding\.", "graph.scales.1.embed."),
    (r"^reasoning\.reweight_ab\.0\.", "graph.scales.0.weigh."),
    (r"^reasoning\.reweight_ac\.0\.", "graph.scales.1.weigh."),
    (r"^reasoning\.reproject\.", "graph.out."),
    (r"^attention\.gated\.", "attention.gate."),
    (r"^attention\.h\.", "attention.transform."),
    (r"^fc\.", "head."),
]


def recce_keys(state: State) -> State:
    """Return a published state under our names."""
    return rename({key.removeprefix("model."): value for key, value in state.items()}, _RULES)
