"""What people call OpenAI's CLIP towers, and open_clip's name for it."""

from __future__ import annotations

# open_clip's name: OpenAI's file, and Hugging Face's repository.
OPENAI = {
    "ViT-B-32": ("ViT-B-32.pt", "openai/clip-vit-base-patch32"),
    "ViT-B-16": ("ViT-B-16.pt", "openai/clip-vit-base-patch16"),
    "ViT-L-14": ("ViT-L-14.pt", "openai/clip-vit-large-patch14"),
    "ViT-L-14-336": ("ViT-L-14-336px.pt", "openai/clip-vit-large-patch14-336"),
}


def _plain(name: str) -> str:
    """Return a name without what differs from place to place: `ViT-L/14@336px` and `vit_l_14_336` are one."""
    plain = name.strip().lower().removeprefix("hf-hub:").removeprefix("hf_hub:").removesuffix("px").strip("/")
    for mark in "/@_ ":
        plain = plain.replace(mark, "-")
    return plain


_KNOWN = {_plain(name): ours for ours, (_, hub) in OPENAI.items() for name in (ours, hub, hub.partition("/")[2])}


def openai_tower(name: str) -> str | None:
    """Return open_clip's name of the tower that `name` (OpenAI's, Hugging Face's or open_clip's) means, or None."""
    return _KNOWN.get(_plain(name))


def local_names(backbone: str) -> tuple[str, ...]:
    """Return names under which OpenAI's weights of a tower are published, for a file or folder of that name."""
    file, hub = OPENAI.get(backbone, (None, None))
    return tuple(name for name in (file, hub and hub.partition("/")[2]) if name)
