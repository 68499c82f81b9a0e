"""Weights that a trunk begins with: a local file, or a tag of timm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn

from common.errors import WeightsError
from training.networks.hub import fetched
from training.networks.weights import PRETRAINED_DIR, State, assign_state, find_weights, read_state

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# timm's tag: the files under which the same weights were published first, as the field's settings name them.
_PUBLISHED = {
    "legacy_xception.tf_in1k": ("xception-b5690688.pth",),
    "tf_efficientnet_b4.aa_in1k": ("efficientnet-b4-6ed6700e.pth",),
    "resnet34.tv_in1k": ("resnet34-b627a593.pth", "resnet34-333f7ec4.pth"),
    "resnet50.tv_in1k": ("resnet50-0676ba61.pth", "resnet50-19c8e357.pth"),
    "vgg19.tv_in1k": ("vgg19-dcbb9e9d.pth",),
    "scnet50_v1d": ("scnet50_v1d-4109d1e1.pth",),
    "swin_base_patch4_window7_224.ms_in22k": ("swin_base_patch4_window7_224_22k.pth",),
    "vit_base_patch16_224.orig_in21k_ft_in1k": ("jx_vit_base_p16_224-80ecf9dd.pth",),
    **{f"hrnet_w{w}.ms_in1k": (f"hrnetv2_w{w}_imagenet_pretrained.pth",) for w in (18, 30, 32, 40, 44, 48, 64)},
}


def load_pretrained(
    trunk: nn.Module,
    asked: str | None,
    architecture: str,
    *,
    miss: Iterable[str] = (),
    ignore: Iterable[str] = (),
    convert: Callable[[State], State] | None = None,
) -> None:
    """Load the weights that `pretrained` names into a trunk, all of them or none.

    Args:
        trunk: the network, with timm's parameter names.
        asked: a file (also by its bare name in `training/pretrained/`), a tag of timm such as `hrnet_w48.ms_in1k`, whose file
            `training/pretrained/<tag>.safetensors` is preferred to a download; null: the trunk stays as it is.
        architecture: timm's name of the trunk, which the tag must be of.
        miss: regular expressions of keys of the trunk that the weights need not have (what a detector adds to it).
        ignore: regular expressions of keys that have no place in the trunk (its classifier).
        convert: translates other names than timm's.

    Raises:
        WeightsError: neither file nor tag, not of this architecture, or not to be had here; says which file to put where.
    """
    if asked is None:
        return
    given = local_trunk(asked)
    state = read_state(given) if given else _download(asked, architecture)
    assign_state(trunk, state, str(given or asked), may_miss=tuple(miss), may_ignore=tuple(ignore), convert=convert)


def local_trunk(asked: str) -> Path | None:
    """Return the file on this machine that `pretrained` means, also without its suffix; None when there is none.

    A tag also means the file in `training/pretrained/` under which its weights were published first.
    """
    tag = _tag(asked)
    published = next((files for known, files in _PUBLISHED.items() if tag in (known, known.partition(".")[0])), ())
    for name in (asked, *(tag + suffix for suffix in _SUFFIXES), *published):
        found = find_weights(name)
        if found:
            return found
    return None


def _tag(asked: str) -> str:
    """Return timm's tag in a name of its hub (`timm/resnet34.tv_in1k`, with or without `hf-hub:`)."""
    return asked.removeprefix("hf-hub:").removeprefix("hf_hub:").removeprefix("timm/")


def _download(tag: str, architecture: str) -> State:
    """Return timm's weights of a tag, from its cache or the network."""
    import timm

    tag = _tag(tag)
    tags = timm.list_pretrained(f"{architecture}.*")
    if tag == architecture and tags:
        tag = tags[0]
    if tag in _PUBLISHED and not tags:
        raise WeightsError(
            f"pretrained: the weights `{tag}` are not fetched; put {_PUBLISHED[tag][0]} into {PRETRAINED_DIR} (address in its "
            "README.md), or write null to train from scratch"
        )
    if tag not in tags:
        raise WeightsError(
            f"pretrained: `{tag}` is neither a file (also not in {PRETRAINED_DIR}) nor a tag of {architecture}; "
            f"tags: {', '.join(tags) or 'none'}, or null to train from scratch"
        )
    try:
        return fetched(lambda: timm.create_model(tag, pretrained=True).state_dict())
    except Exception as error:  # what a missing network raises depends on the libraries underneath
        also = "".join(f" or {file}" for file in _PUBLISHED.get(tag, ())[:1])
        raise WeightsError(
            f"the weights `{tag}` cannot be fetched ({type(error).__name__}); put them as "
            f"{PRETRAINED_DIR / (tag + '.safetensors')} (or .pth, .pt, .bin){also} (addresses in its README.md), or write null"
        ) from error
