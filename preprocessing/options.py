"""Where the options of the three commands come from: command line over `config.yaml` over built-in defaults."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import ConfigError, DataError

CONFIG = Path(__file__).parent / "config.yaml"
WHOLE_NUMBERS = ("num_frames", "stride", "workers", "quality", "max_pixels", "video_timeout")
PATH_KEYS = ("dataset_root_path", "detector_file", "output", "output_file_path", "output_lmdb_dir")


def section(path: str | os.PathLike | None, name: str) -> dict[str, Any]:
    """Return one section (`preprocess`, `rearrange`, `to_lmdb`) of a YAML file as plain key → value.

    Both `num_frames: 32` and the field's `num_frames: {choices: [...], default: 32}` are read. Relative paths count from
    the file's own folder. Empty values are left out.

    Raises:
        ConfigError: no such file, not YAML, no such section, or a value of the wrong type.
    """
    from common.yaml_source import Source

    file = Path(path) if path is not None else CONFIG
    source = Source.from_file(file)
    content = source.values.get(name)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{file} has no section `{name}:`; add it or choose another file with --config")
    values = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            if "default" not in value:
                raise ConfigError(
                    f"{source.where((name, key))}: `{key}` has no `default:`; add one or write `{key}: value`"
                )
            value = value["default"]
        if value is None or value == "":
            continue
        values[key] = value = _typed(key, value, source.where((name, key)))
        if key in PATH_KEYS and not str(value).startswith(("/", "~")) and ":" not in str(value):
            values[key] = str(file.parent / str(value))
    return values


def _typed(key: str, value: Any, where: str) -> Any:
    """Return a value of the file as the command line would give it: a whole number or a word."""
    if isinstance(value, list | dict | bool) or (key in WHOLE_NUMBERS and not isinstance(value, int)):
        kind = "a whole number" if key in WHOLE_NUMBERS else "one word"
        raise ConfigError(f"{where}: `{key}` is {value!r}; write {kind}")
    return value if key in WHOLE_NUMBERS else str(value)


def choose(arguments: Mapping[str, Any], config: str | os.PathLike | None, name: str) -> dict[str, Any]:
    """Return `arguments` (None: not said) filled up from the file's section.

    Raises:
        ConfigError: an option that neither says, or a word the command does not know in the section.
    """
    written = section(config, name)
    unknown = sorted(set(written) - set(arguments))
    if unknown:
        raise ConfigError(
            f"{config or CONFIG}: `{name}.{unknown[0]}` is unknown; known: {', '.join(sorted(arguments))}"
        )
    return {key: written.get(key) if value is None else value for key, value in arguments.items()}


def dataset_folder(root: str | os.PathLike | None, folder: str, recognised: Any) -> Path:
    """Return the dataset's folder, given the folder that contains it or the folder itself.

    Args:
        root: what the user said.
        folder: the dataset's folder name, for example `FaceForensics++`.
        recognised: tells of a folder whether it looks like this dataset from inside.

    Raises:
        ConfigError: nothing was said. DataError: neither reading of it fits.
    """
    if root is None:
        raise ConfigError(
            "dataset_root_path is not set; give --dataset_root_path, the folder that contains the dataset"
        )
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(f"dataset_root_path: there is no folder {root}; give the folder that contains {folder}/")
    inside = root / folder
    if inside.is_dir():
        return inside
    if recognised(root):
        return Path(os.path.abspath(root))  # its name stands in the index's paths, also when it was called `.`
    raise DataError(
        f"dataset_root_path: {root} neither contains a folder {folder}/ nor looks like that dataset itself; "
        "see preprocessing/README.md for how it should be laid out"
    )
