"""Weights that a trunk begins with: a local file, or a tag of timm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn

from common.errors import WeightsError
from training.networks.weights import PRETRAINED_DIR, State, assign_state, find_weights, read_state

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def load_pretrained(
    trunk: nn.Module,
    wish: str | None,
    architecture: str,
    *,
    ignore: Iterable[str] = (),
    convert: Callable[[State], State] | None = None,
) -> None:
    """Load the weights that `pretrained` names into a trunk, all of them or none.

    Args:
        trunk: the network, with timm's parameter names.
        wish: a file (also by its bare name in `training/pretrained/`), a tag of timm such as `hrnet_w48.ms_in1k`, whose file
            `training/pretrained/<tag>.safetensors` is preferred to a download; null: the trunk stays as it is.
        architecture: timm's name of the trunk, which the tag must be of.
        ignore: regular expressions of keys that have no place in the trunk (its classifier).
        convert: translates other names than timm's.

    Raises:
        WeightsError: neither file nor tag, not of this architecture, or not to be had here; says which file to put where.
    """
    if wish is None:
        return
    given = local_trunk(wish)
    state = read_state(given) if given else _download(wish, architecture)
    assign_state(trunk, state, str(given or wish), may_ignore=tuple(ignore), convert=convert)


def local_trunk(wish: str) -> Path | None:
    """Return the file on this machine that `pretrained` means, also without its suffix; None when there is none."""
    for name in (wish, *(wish + suffix for suffix in _SUFFIXES)):
        found = find_weights(name)
        if found:
            return found
    return None


def _download(tag: str, architecture: str) -> State:
    """Return timm's weights of a tag, from its cache or the network."""
    import timm

    tags = timm.list_pretrained(f"{architecture}.*")
    if tag == architecture and tags:
        tag = tags[0]
    if tag not in tags:
        raise WeightsError(
            f"pretrained: `{tag}` is neither a file (also not in {PRETRAINED_DIR}) nor a tag of {architecture}; "
            f"tags: {', '.join(tags) or 'none'}, or null to train from scratch"
        )
    try:
        return timm.create_model(tag, pretrained=True).state_dict()
    except Exception as error:  # what a missing network raises depends on the libraries underneath
        raise WeightsError(
            f"the weights `{tag}` cannot be fetched ({type(error).__name__}); put them as "
            f"{PRETRAINED_DIR / (tag + '.safetensors')} (or .pth, .pt, .bin), or write null"
        ) from error
