"""State dicts: found inside a checkpoint, brought under a network's names, and copied into it, all of it or not at all."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from common.errors import WeightsError

log = logging.getLogger("clipdeepfake")
State = dict[str, torch.Tensor]
# Where projects keep the network's tensors, the usual place first; any other place counts where it is the only one.
_WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state", "net", "network", "net_state_dict", "weights", "params",
             "checkpoint")  # fmt: skip
# What wraps a module without being part of its network: torch.compile, FSDP, activation checkpointing.
_INSERTED = re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_BESIDE = {"n_averaged"}  # of torch's AveragedModel
# What a translation meets in weights that it was not written for.
NOT_THEIRS = (LookupError, ValueError, TypeError, AttributeError, RuntimeError)
_DEEPEST, _SHOWN = 6, 3


def unwrap_state(content: object, name: str = "the given state") -> State:
    """Return the flat tensor mapping inside a checkpoint-like object, without the marks of wrapping modules.

    Raises:
        WeightsError: there is none, or there are several of which none is in a usual place; lists them.
    """
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{name} holds no state_dict; give a file that maps parameter names to tensors")
    found = _states_in(content)
    if not found:
        raise WeightsError(f"{name} holds no tensors; give a file that maps parameter names to tensors")
    if len(found) > 1:
        listed = ", ".join(f"`{place}` ({len(state)} tensors)" for place, state in list(found.items())[:8])
        raise WeightsError(f"{name} holds several networks: {listed}; save the one that is meant as a file of its own")
    state = {
        _INSERTED.sub(r"\1", key): value for key, value in next(iter(found.values())).items() if key not in _BESIDE
    }
    while state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _states_in(content: Mapping) -> dict[str, State]:
    """Return the state dicts inside a checkpoint by their place: one, where one of the usual names leads to it."""
    at, place, seen = content, [], {id(content)}
    while True:
        usual = [
            key
            for key in _WRAPPERS
            if isinstance(at.get(key), Mapping) and id(at[key]) not in seen and _any_tensor(at[key])
        ]
        if not usual:
            break
        others = [str(key) for key, value in at.items() if key != usual[0] and _looks_like_a_state(value)]
        if others:
            log.info("of what the checkpoint holds, `%s` is taken, not `%s`", usual[0], "`, `".join(others))
        at = at[usual[0]]
        seen.add(id(at))
        place.append(usual[0])
    own = _tensors(at)
    if _looks_like_a_state(at):
        return {".".join(place): own}
    found = dict(_below(at, "", {id(at)}))
    states = {where: state for where, state in found.items() if any("." in key for key in state)}
    # Names without a dot are a single layer's, or losses and scores.
    return states or ({".".join(place) or "the top": own} if own else {}) | found


def _below(content: Mapping, prefix: str, seen: set[int]) -> Iterator[tuple[str, State]]:
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Mapping) or id(value) in seen or len(seen) > 10_000:
            continue
        seen.add(id(value))
        # An optimiser's moments are tensors by number.
        if "param_groups" in value or (value and all(isinstance(k, int) for k in value)):
            continue
        state = _tensors(value)
        if state:
            yield prefix + key, state
        if not _looks_like_a_state(value) and prefix.count(".") < _DEEPEST:
            yield from _below(value, f"{prefix}{key}.", seen)


def _tensors(content: Mapping) -> State:
    return {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}


def _any_tensor(content: Mapping) -> bool:
    return bool(_tensors(content)) or next(_below(content, "", {id(content)}), None) is not None


def _looks_like_a_state(value: Any) -> bool:
    return isinstance(value, Mapping) and any("." in key for key in _tensors(value))


def rename(state: State, rules: Iterable[tuple[str, str]]) -> State:
    """Return the state with every key rewritten by the first `(pattern, replacement)` whose regular expression matches."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def new_name(key: str) -> str:
        for pattern, replacement in compiled:
            if pattern.search(key):
                return pattern.sub(replacement, key)
        return key

    return {new_name(key): value for key, value in state.items()}


def without_shared_prefix(own: Iterable[str], state: State, convert: Callable[[State], State] | None = None) -> State:
    """Return the state without what all of its names begin with (`model.`, `detector.` …), where more of them fit then.

    Args:
        own: the network's names. state: tensors by name. convert: translates other names than ours.
    """
    names = set(own)

    def fitting(candidate: State) -> int:
        translated = _translated(convert, candidate)
        return max(len(names & candidate.keys()), len(names & translated.keys()) if translated is not None else 0)

    best, most = state, fitting(state)
    while state and len(prefixes := {key.partition(".")[0] + "." for key in state if "." in key}) == 1:
        prefix = prefixes.pop()
        if not all(key.startswith(prefix) for key in state):
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        if (count := fitting(state)) > most:
            best, most = state, count
    return best


def _translated(convert: Callable[[State], State] | None, state: State) -> State | None:
    """Return a translated copy; None without a translation, or where the state is none that it knows."""
    try:
        return convert(dict(state)) if convert is not None else None
    except (*NOT_THEIRS, WeightsError):
        return None


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
        state: tensors by name; what all names begin with is taken away where the rest fits.
        name: what to call the state in a message, for example its file.
        may_miss: regular expressions of our keys that the state need not have (training-only parts).
        may_ignore: regular expressions of keys of the state that have no place here.
        convert: tried when the names as they are do not fit.
    """
    own, refused = module.state_dict(), f"{name} does not hold the weights of this network"
    state = without_shared_prefix(own, state, convert)
    problem = _misfit(own, state, may_miss, may_ignore)
    if problem and convert is not None:
        try:
            converted = convert(dict(state))
        except WeightsError as error:
            raise WeightsError(f"{refused}: {error}") from error
        except NOT_THEIRS:
            converted = {}
        second = _misfit(own, converted, may_miss, may_ignore)
        # The message about the names that fit better is the one that helps.
        if second is None or len(own.keys() & converted) > len(own.keys() & state):
            state, problem = converted, second
    if problem:
        raise WeightsError(f"{refused}: {problem}")
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
        begins = f"; its names begin {_some(surplus)}, this network's {_some(missing)}" if surplus else ""
        return f"{len(missing)} of {len(own)} tensors are missing, first `{missing[0]}`{begins}"
    if surplus:
        return f"{len(surplus)} tensors have no place here, first `{surplus[0]}`"
    return None


def _some(keys: list[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys[:_SHOWN])
