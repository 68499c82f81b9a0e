"""How each dataset is laid out on disk. A layout is one file here that ends in `LAYOUT = …`; its `names` are what users say."""

from functools import cache

from common.by_name import Folder
from common.errors import ConfigError
from preprocessing.layouts._base import Facts, Group, Layout, SourceVideo

__all__ = ["Facts", "Group", "Layout", "SourceVideo", "available_layouts", "find_layout"]


_LAYOUTS = Folder(__name__, "layout")


@cache
def _layouts() -> dict[str, Layout]:
    found: dict[str, Layout] = {}
    for file in _LAYOUTS.names:
        layout = _LAYOUTS.module(file).LAYOUT
        found |= dict.fromkeys(layout.names, layout)
    return found


def available_layouts() -> tuple[str, ...]:
    """Return every name that `--dataset_name` or `--layout` knows."""
    return tuple(sorted(_layouts()))


def find_layout(dataset: str, layout: str | None = None) -> Layout:
    """Return the layout of a dataset; `layout` names another dataset that it is laid out like.

    Raises:
        ConfigError: no layout of that name.
    """
    name = layout or dataset
    if name in _layouts():
        return _layouts()[name]
    known = ", ".join(available_layouts())
    if layout:
        raise ConfigError(f"--layout {layout}: there is no such layout; known: {known}")
    raise ConfigError(
        f"dataset_name: `{dataset}` is not a known dataset ({known}); if it is laid out like one of them, add --layout NAME "
        "(`custom` reads plain real/ and fake/ folders)"
    )
