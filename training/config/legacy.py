"""What other projects' YAML files say otherwise, read from `legacy.yaml`: data, so that no code holds their names."""

from functools import cache
from pathlib import Path
from typing import Any

from common.yaml_source import Source


@cache
def legacy() -> dict[str, Any]:
    """Return the tables of `legacy.yaml`, which explains each."""
    return Source.from_file(Path(__file__).with_name("legacy.yaml")).values
