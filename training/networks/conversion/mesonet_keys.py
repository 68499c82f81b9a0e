"""DeepfakeBench's names of the two MesoNets under ours.

It uses one BatchNorm after every two convolutions. Ours have a place each, which both get the same tensors: predictions are
equal, and training may then part them.
"""

import re

from training.networks.weights import State

_HEAD = {"fc1": "head.1", "fc2": "head.4"}


def meso4_keys(state: State) -> State:
    """Return a DeepfakeBench state of Meso4 under our names."""
    return _converted(state, first_convolution=0)


def meso_inception_keys(state: State) -> State:
    """Return a DeepfakeBench state of MesoInception4 under our names."""
    return _converted(state, first_convolution=2)


def _converted(state: State, first_convolution: int) -> State:
    return {name: value for key, value in state.items() for name in _names(key, first_convolution)}


def _names(key: str, first_convolution: int) -> list[str]:
    """Return our names, one or two, of one of theirs; any other name stays."""
    theirs = re.match(r"backbone\.([A-Za-z_\d]+)\.(\w+)$", key)
    if theirs is None:
        return [key]
    part, leaf = theirs.groups()
    if part in _HEAD:
        return [f"{_HEAD[part]}.{leaf}"]
    if layer := re.fullmatch(r"conv(\d)", part):
        return [f"backbone.{first_convolution + int(layer[1]) - 1}.conv.{leaf}"]
    if norm := re.fullmatch(r"bn(\d)", part):
        first = first_convolution + 2 * int(norm[1]) - 2
        return [f"backbone.{place}.norm.{leaf}" for place in (first, first + 1)]
    if module := re.fullmatch(r"Incption(\d)_(bn|conv1|conv(\d)_(\d))", part):
        number, inside, branch, place = module.groups()
        if branch:
            ours = f"{'reduce' if place == '1' else 'dilated'}.{int(branch) - 2}"
        else:
            ours = {"bn": "norm", "conv1": "direct"}[inside]
        return [f"backbone.{int(number) - 1}.{ours}.{leaf}"]
    return [key]
