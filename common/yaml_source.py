"""Read YAML into plain values together with the line on which each key stands."""

import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from common.errors import ConfigError

Path_ = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """Safe YAML with the numbers and booleans that people mean (YAML 1.2): `1e-4` is a number, `off` is a word."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in rules if tag not in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:bool")
    ]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
# The integer rule was added first and therefore wins for plain digits; keep that order after our additions.
for _rules in _Loader.yaml_implicit_resolvers.values():
    _rules.sort(key=lambda rule: rule[0] != "tag:yaml.org,2002:int")


# Nodes, and levels of them: far above any configuration, far below what would fill the memory.
_MOST_NODES, _DEEPEST = 100_000, 100


class _Excess(yaml.YAMLError):
    """The text is small, but what it stands for is not."""

    def __init__(self, problem: str, mark: yaml.Mark | None = None):
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark


def _compose(loader: _Loader) -> yaml.Node | None:
    """Return the tree of a text; one whose aliases unfold to very much, or to themselves, is a YAMLError."""
    try:
        root = loader.get_single_node()
    except RecursionError as error:
        raise _Excess(f"nested more than {_DEEPEST} deep") from error
    if root is not None:
        _measure(root, {}, 0)
    return root


def _measure(node: yaml.Node, sizes: dict[int, int | None], depth: int) -> int:
    """Return the number of nodes below and with this one, every alias unfolded; None in `sizes` marks those on the way down."""
    found = sizes.get(id(node), 0)
    if found is None:
        raise _Excess("an alias stands for the very thing that it is in", node.start_mark)
    if found:
        return found
    if depth > _DEEPEST:
        raise _Excess(f"nested more than {_DEEPEST} deep", node.start_mark)
    children: Iterable[yaml.Node] = ()
    if isinstance(node, yaml.MappingNode):
        children = chain.from_iterable(node.value)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    sizes[id(node)] = None
    sizes[id(node)] = size = 1 + sum(_measure(child, sizes, depth + 1) for child in children)
    if size > _MOST_NODES:
        raise _Excess(f"its aliases unfold to more than {_MOST_NODES} values", node.start_mark)
    return size


def read_plain(path: Path) -> Any:
    """Return what a YAML file says, whatever its form.

    Raises:
        FileNotFoundError: it is not there. ConfigError: it is not YAML, or unfolds to too much.
    """
    try:
        return _plain(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _plain(text: str) -> Any:
    loader = _Loader(text)
    try:
        root = _compose(loader)
        return None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


class Source:
    """One YAML mapping: `values`, and where each key came from.

    Attributes:
        values: nested dicts of plain Python values.
        lines: 1-based line of each key path.
        duplicates: key paths that the file gives twice; the last one counts, as with every YAML reader of the field.
    """

    def __init__(self, name: str, text: str):
        self.name = name
        self.lines: dict[Path_, int] = {}
        self.duplicates: list[Path_] = []
        loader = _Loader(text)
        try:
            root = _compose(loader)
            if root is None:
                self.values: dict[str, Any] = {}
                return
            if not isinstance(root, yaml.MappingNode):
                raise ConfigError(
                    f"{name} holds no keys at its top level; it must be a mapping such as `model_name: clip_ln`"
                )
            self._walk(root, ())
            self.values = _string_keys(loader.construct_document(root))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f"{name}:{mark.line + 1}" if mark else name
            raise ConfigError(f"{line}: not valid YAML ({getattr(error, 'problem', error)}); fix that line") from error
        finally:
            loader.dispose()

    @classmethod
    def from_file(cls, path: str | Path) -> "Source":
        """Read a file; a missing or unreadable one is a ConfigError."""
        try:
            return cls(str(path), Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(
                f"no such configuration file: {path}; give a YAML file, or where a run is asked for its directory"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise ConfigError(f"cannot read the configuration file {path} ({reason}); give a YAML file") from error

    @classmethod
    def from_override(cls, text: str) -> "Source":
        """Read one `a.b=c` of the command line; the value is YAML."""
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {text}: write it as key=value, for example optimizer.adam.lr=1e-4")
        source = cls(f"--set {text}", "")
        parts = tuple(key.strip().split("."))
        try:
            node: Any = _plain(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: the value is not valid YAML") from error
        for part in reversed(parts):
            node = {part: node}
        source.values = _string_keys(node)
        return source

    def _walk(self, node: yaml.Node, path: Path_) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            here = (*path, str(key.value))
            if here in self.lines:
                self.duplicates.append(here)
            self.lines[here] = key.start_mark.line + 1
            self._walk(value, here)

    def where(self, path: Path_) -> str:
        """Return `file:line` of a key, or of its nearest parent that is written there."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines[path]}" if path else self.name

    def has(self, path: Path_) -> bool:
        """Return whether this source gives the key."""
        node: Any = self.values
        for part in path:
            if not isinstance(node, dict) or part not in node:
                return False
            node = node[part]
        return True


def _string_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _string_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_string_keys(item) for item in value]
    return value
