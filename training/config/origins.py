"""Where each value of a configuration comes from: what `--print_config` shows."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from common.yaml_source import Path_, Source
from training.config.loader import read_config

_COLUMN = 60


def annotated(path: str | Path, overrides: Sequence[str] = (), mode: Literal["train", "test"] = "train") -> str:
    """Return the effective configuration as YAML, each line with the origin of its value as a comment.

    An origin is `default`, `FILE:LINE`, or `command line`. The text is a configuration itself: `load_config` on a file of it
    returns an equal one.

    Raises:
        ConfigError: as `load_config`.
    """
    config, sources = read_config(path, overrides, mode, quiet=True)
    return "".join(f"{line}\n" for line in _lines(config.model_dump(mode="json"), (), sources))


def _lines(values: dict[str, Any], above: Path_, sources: Sequence[Source]) -> Iterator[str]:
    indent = "  " * len(above)
    for key, value in values.items():
        path = (*above, key)
        if isinstance(value, dict) and value:
            yield f"{indent}{_value(key)}:"
            yield from _lines(value, path, sources)
        else:
            yield f"{indent + _value(key) + ': ' + _value(value):<{_COLUMN}}  # {_origin(path, sources)}"


def _value(value: Any) -> str:
    """Return a value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _origin(path: Path_, sources: Sequence[Source]) -> str:
    for source in reversed(sources):
        if source.has(path):
            return _near(source.where(path)) if source.lines else "command line"
    return "default"


def _near(place: str) -> str:
    """Write a place below the current folder as seen from there."""
    return place.removeprefix(f"{Path.cwd()}{os.sep}")
