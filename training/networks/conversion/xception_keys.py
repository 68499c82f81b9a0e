"""Names and shapes of published Xception weights: the ImageNet file `xception-b5690688.pth`, and DeepfakeBench's detectors."""

from training.networks.weights import State, rename

# A part of the reference's trunk that only some of its detectors use.
UNUSED_KEYS = (r"^backbone\w*\.adjust_channel\.",)
# Its classifier; with dropout it is the second of two layers.
LAST_LINEAR = r"^{trunk}\.last_linear\.(?:1\.)?"


def imagenet_keys(state: State) -> State:
    """Return the original's ImageNet weights in timm's form: its pointwise kernels are stored as matrices."""
    return {
        key: value[:, :, None, None] if "pointwise" in key and value.ndim == 2 else value
        for key, value in state.items()
    }


def head_keys(state: State) -> State:
    """Return a DeepfakeBench state under the names of a detector with `backbone` and `head`."""
    return rename(state, [(LAST_LINEAR.format(trunk="backbone"), "head.")])
