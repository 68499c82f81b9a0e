"""Merge the sources of a configuration in their order, validate them, and answer mistakes with file, line and remedy.

Order, weakest first: built-in defaults, `train_config.yaml` or `test_config.yaml`, the detector's YAML, the command line.
"""

import fnmatch
import importlib
import logging
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from common.by_name import nearest
from common.datasets import default_labels
from common.errors import ConfigError
from common.io import atomic_write
from common.yaml_source import Path_, Source
from training.config.legacy import legacy
from training.config.schema import Config, spread_frames

CONFIG_DIR = Path(__file__).parent
log = logging.getLogger("clipdeepfake.config")


def load_config(
    path: str | Path, overrides: Sequence[str] = (), mode: Literal["train", "test"] = "train", quiet: bool = False
) -> Config:
    """Return the effective configuration of a detector YAML, or of a run directory's `config.yaml`.

    Args:
        path: a YAML file in the field's form.
        overrides: `key.sub=value` texts, stronger than every file; values are YAML.
        mode: which of `train_config.yaml` and `test_config.yaml` stands underneath.
        quiet: do not log what was ignored in foreign files.

    Raises:
        ConfigError: unknown or ill-typed key, missing file, unknown detector; names file, line, key and what is allowed.
    """
    return read_config(path, overrides, mode, quiet)[0]


def read_config(
    path: str | Path, overrides: Sequence[str], mode: Literal["train", "test"], quiet: bool = False
) -> tuple[Config, list[Source]]:
    """Return what `load_config` does, and the sources that it was merged from, weakest first."""
    sources = [Source.from_file(CONFIG_DIR / f"{mode}_config.yaml"), Source.from_file(path)]
    sources += [Source.from_override(text) for text in overrides]
    notes: list[str] = []
    for source in sources:
        _translate(source, notes)
    values: dict[str, Any] = {"label_dict": default_labels()}
    for source in sources:
        if "frame_num" in source.values:  # before one source's number meets another's `frame_num.test`
            source.values["frame_num"] = spread_frames(source.values["frame_num"])
        _merge(values, source.values)
    schema = _schema_for(values, sources)
    _clean_pretrained(values, sources, notes)
    _translate_backbone(values)
    try:
        config = schema.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error, schema, sources)) from None
    if mode == "train":
        _check_recipe(config, sources)
    if notes and not quiet:
        log.warning("%s: read, but not used: %s", path, "; ".join(notes))
    return config, sources


def config_text(config: Config) -> str:
    """Return the effective configuration as YAML; `load_config` on a file of it returns an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def save_config(config: Config, path: str | Path) -> None:
    """Write the effective configuration as YAML."""
    atomic_write(path, config_text(config))


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    """Merge nested mappings key by key; anything else is replaced."""
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, dict) else value


def _pop(values: dict[str, Any], path: Path_) -> Any:
    for part in path[:-1]:
        values = values[part]
    return values.pop(path[-1])


def _put(values: dict[str, Any], path: Path_, value: Any) -> None:
    """Set a key that is not there yet, in sections that are made where they are missing."""
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):  # ill-typed, which validation says
            return
    values.setdefault(path[-1], value)


def _translate(source: Source, notes: list[str]) -> None:
    """Drop, move and rename what other projects' files carry, noting each."""
    tables = legacy()
    for path in source.duplicates:
        notes.append(f"the first of two `{'.'.join(path)}`")
    for dotted, instead in tables["ignored"].items():
        path = tuple(dotted.split("."))
        if source.has(path):
            _pop(source.values, path)
            notes.append(f"`{dotted}` ({instead})")
    for old, new in tables["moved"].items():
        path = tuple(old.split("."))
        if source.has(path):
            _put(source.values, tuple(new.split(".")), _pop(source.values, path))
            parent = source.values
            for part in path[:-2]:
                parent = parent[part]
            if len(path) > 1 and not parent.get(path[-2], True):
                parent.pop(path[-2])
    folder = source.values.get("log_dir")
    # Only files travel between machines; what is said on the command line is meant for this one.
    if source.lines and isinstance(folder, str) and _is_foreign(Path(folder)):
        source.values.pop("log_dir")
        notes.append(f"`log_dir: {folder}` (a folder of another machine)")
    name = source.values.get("model_name")
    stem = Path(source.name).stem
    if isinstance(name, str):
        # A file that is named after a detector is for that detector, whatever a copied line in it says.
        source.values["model_name"] = tables["file_is_for"].get(stem) or tables["model_name"].get(name, name)
        if source.values["model_name"] != name:
            notes.append(f"`model_name: {name}` (this file is for {source.values['model_name']})")


def _is_foreign(folder: Path) -> bool:
    """Return whether not even the first part of an absolute path exists here."""
    return folder.is_absolute() and not Path(*folder.parts[:2]).exists()


def _detectors() -> Any:
    """Return the registry of detectors, by its name: the configuration stands below them."""
    return importlib.import_module("training.detectors.registry")


def _check_recipe(config: Config, sources: list[Source]) -> None:
    """Refuse a recipe that is not there, and keys that it does not know, before any data is read."""
    recipes = importlib.import_module("training.dataset.recipes.recipe")
    try:
        options = recipes.recipe_class(config).Options
    except ConfigError as error:
        raise ConfigError(f"{_where(('dataset_type',), sources)}: {error}") from None
    try:
        options.model_validate(config.recipe)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error, options, sources, within=("recipe",))) from None


def _schema_for(values: dict[str, Any], sources: list[Source]) -> type[Config]:
    registry = _detectors()
    name = values.get("model_name")
    where = _where(("model_name",), sources)
    if name is None:
        raise ConfigError(
            f"{sources[1].name}: `model_name` is missing; name one of: {', '.join(registry.available_detectors())}"
        )
    if name not in registry.available_detectors():
        raise ConfigError(
            f"{where}: there is no detector `{name}`; {nearest(str(name), registry.available_detectors())}"
        )
    return registry.config_class(name)


def _translate_backbone(values: dict[str, Any]) -> None:
    names = legacy()["backbone_name"].get(values.get("model_name"), {})
    if values.get("backbone_name") in names:
        values["backbone_name"] = names[values["backbone_name"]]


def _clean_pretrained(values: dict[str, Any], sources: list[Source], notes: list[str]) -> None:
    """Give `pretrained` its meaning: a tag, a file, or null; public files also hold false, prose and addresses."""
    value = values.get("pretrained")
    where = _where(("pretrained",), sources)
    if value is False or value in ("None", "none", ""):
        values["pretrained"] = None
        notes.append(f"`pretrained: {value}` (taken as null: no pretrained weights)")
        return
    if value is None:
        return
    if not isinstance(value, str):
        raise ConfigError(f"{where}: `pretrained` is {value!r}; write a tag, the path of a weight file, or null")
    if "://" in value:
        raise ConfigError(
            f"{where}: `pretrained` is an address; download {value} into training/pretrained/ and name that file"
        )
    for pattern, instead in legacy()["pretrained"].get(values.get("model_name"), {}).items():
        if fnmatch.fnmatch(Path(value).name, pattern):
            values["pretrained"] = instead
            notes.append(f"`pretrained: {value}` (weights of another network; `{instead}` is used)")
            return
    if " " in value.strip() and not Path(value).exists():
        values["pretrained"] = _detectors().config_class(values["model_name"]).model_fields["pretrained"].get_default()
        notes.append(f"`pretrained: {value}` (prose; the detector's own default {values['pretrained']!r} is used)")


def _where(path: Path_, sources: Sequence[Source]) -> str:
    for source in reversed(sources):
        if source.has(path):
            return source.where(path)
    return sources[1].name


def _section_of(schema: type[pydantic.BaseModel], path: Path_) -> type[pydantic.BaseModel] | None:
    """Return the model that holds the key at `path`, or None inside a free mapping."""
    model: Any = schema
    for part in path[:-1]:
        field = model.model_fields.get(part)
        if field is None:
            return None
        candidates = [field.annotation, *typing.get_args(field.annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, pydantic.BaseModel)), None)
        if model is None:
            return None
    return model


def _explain(
    error: pydantic.ValidationError, schema: type[pydantic.BaseModel], sources: Sequence[Source], within: Path_ = ()
) -> str:
    """Turn the first validation error into one sentence with file, line, key, what is allowed, and the nearest key.

    `within` is where the keys of `schema` stand in the file.
    """
    errors = error.errors()
    first = errors[0]
    path = tuple(str(part) for part in first["loc"])
    while path and not any(source.has((*within, *path)) for source in sources) and _section_of(schema, path) is None:
        path = path[:-1]
    whole = (*within, *path)
    where, dotted = _where(whole, sources), ".".join(whole)
    if first["type"] == "extra_forbidden":
        section = _section_of(schema, path) or schema
        group = f" in `{'.'.join(whole[:-1])}`" if len(whole) > 1 else ""
        message = f"{where}: unknown key `{whole[-1]}`{group}; {nearest(path[-1], list(section.model_fields))}"
    elif first["type"] == "missing":
        message = f"{where}: the key `{dotted}` is missing; add it"
    elif first["type"] == "value_error":
        message = f"{where}: {dotted + ': ' if dotted else ''}{first['msg'].removeprefix('Value error, ')}"
    elif first["type"] in ("model_type", "model_attributes_type", "dict_type"):
        inner = _section_of(schema, (*path, ""))
        keys = f" ({', '.join(inner.model_fields)})" if inner else ""
        message = (
            f"{where}: `{dotted}` is {first['input']!r}; it is a group of keys{keys}: write {dotted}.KEY, or a mapping"
        )
    else:
        message = f"{where}: `{dotted}` is {first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}"
    others = len({tuple(e["loc"]) for e in errors}) - 1
    return message + (f" (and {others} more like it)" if others > 0 and first["type"] == "extra_forbidden" else "")
