"""From an index file to batches: `build_loader(config, split)`."""

from typing import Any

__all__ = ["DataInfo", "Index", "build_loader"]

_HOMES = {"DataInfo": "batch", "Index": "dataset.index.videos", "build_loader": "dataset.loader"}


def __getattr__(name: str) -> Any:
    # The data path needs torch and OpenCV; those who only ask for a name here should not wait for them.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"training.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'training.dataset' has no attribute {name!r}")
