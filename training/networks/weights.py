"""Read weight files safely and match them to a network, all of it or not at all."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from common.errors import WeightsError

State = dict[str, torch.Tensor]
PRETRAINED_DIR = Path(__file__).parents[1] / "pretrained"
# Where checkpoints of different projects keep the network's tensors.
_WRAPPERS = ("model", "state_dict", "model_state_dict", "net", "network")


def find_weights(name: str | os.PathLike) -> Path | None:
    """Return the file that `name` means: itself, or a file of that name in `training/pretrained/`; None when neither is."""
    for candidate in (Path(name), PRETRAINED_DIR / Path(name).name):
        if candidate.is_file():
            return candidate
    return None


def read_state(path: str | os.PathLike) -> State:
    """Return the tensors of a `.safetensors` or torch file, unwrapped and without `module.` prefixes.

    Nothing in the file is executed: torch files are read with `weights_only=True`.

    Raises:
        WeightsError: missing, truncated, or a pickle that holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no such weight file: {path}; give the path of a .pth, .pt, .bin or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's advice on pickles is for those who write them
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise refusal(path, error) from error
    return unwrap_state(content, str(path))


def refusal(path: str | os.PathLike, error: Exception) -> WeightsError:
    """Return the sentence on why a file is not read: it holds more than tensors and plain values, or it is damaged."""
    if "weights_only" in str(error) or "Unsupported global" in str(error):
        reason = "it is a pickle that may run code; save its state_dict alone, or convert it to .safetensors"
    else:
        reason = f"it cannot be read ({type(error).__name__}); it may be truncated: copy or download it again"
    return WeightsError(f"{path} is refused: {reason}")


def unwrap_state(content: object, name: str = "the given state") -> State:
    """Return the flat tensor mapping inside a checkpoint-like object."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{name} holds no state_dict; give a file that maps parameter names to tensors")
    state = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if not state:
        raise WeightsError(f"{name} holds no tensors; give a file that maps parameter names to tensors")
    while all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def rename(state: State, rules: Iterable[tuple[str, str]]) -> State:
    """Return the state with every key rewritten by the first `(pattern, replacement)` whose regular expression matches."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def new_name(key: str) -> str:
        for pattern, replacement in compiled:
            if pattern.search(key):
                return pattern.sub(replacement, key)
        return key

    return {new_name(key): value for key, value in state.items()}


def assign_state(
    module: nn.Module,
    state: State,
    name: str,
    *,
    may_miss: Iterable[str] = (),
    may_ignore: Iterable[str] = (),
    convert: Callable[[State], State] | None = None,
) -> None:
    """Copy `state` into `module`, or raise WeightsError and leave the module as it was.

    Args:
        module: the network.
        state: tensors by name.
        name: what to call the state in a message, for example its file.
        may_miss: regular expressions of our keys that the state need not have (training-only parts).
        may_ignore: regular expressions of keys of the state that have no place here.
        convert: tried when the names as they are do not fit.
    """
    own = module.state_dict()
    problem = _misfit(own, state, may_miss, may_ignore)
    if problem and convert is not None:
        try:
            converted = convert(dict(state))
        except KeyError as error:
            raise WeightsError(f"{name} does not hold the weights of this network: it lacks {error}") from error
        second = _misfit(own, converted, may_miss, may_ignore)
        # The message about the names that fit better is the one that helps.
        state, problem = (converted, second) if second is None or len(own.keys() & converted) else (state, problem)
    if problem:
        raise WeightsError(f"{name} does not hold the weights of this network: {problem}")
    module.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)


def _misfit(own: State, state: State, may_miss: Iterable[str], may_ignore: Iterable[str]) -> str | None:
    """Return what does not fit, in words, or None."""

    def matches(key: str, patterns: Iterable[str]) -> bool:
        return any(re.search(pattern, key) for pattern in patterns)

    # Older checkpoints lack the batch counters, which no computation of ours reads.
    missing = [k for k in own if k not in state and not matches(k, may_miss) and not k.endswith("num_batches_tracked")]
    surplus = [
        k for k in state if k not in own and not matches(k, may_ignore) and not k.endswith("num_batches_tracked")
    ]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if shapes:
        key = shapes[0]
        return f"`{key}` has shape {tuple(state[key].shape)} there and {tuple(own[key].shape)} here"
    if missing:
        return f"{len(missing)} of {len(own)} tensors are missing, first `{missing[0]}`"
    if surplus:
        return f"{len(surplus)} tensors have no place here, first `{surplus[0]}`"
    return None
