"""Things that are found by the name of their file: detectors, recipes, layouts, ways of tuning, benchmarks.

A new one is a new file of a folder; nothing lists them. Listing imports nothing.
"""

import difflib
import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from common.errors import ConfigError


def nearest(name: str, known: Sequence[str]) -> str:
    """Return what follows `there is no … NAME; `: the known name that is most like it, else all of them."""
    if not known:
        return "there are none here"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(known))}"


@dataclass(frozen=True)
class Folder:
    """The files `<name><suffix>.py` of a package's folder, each of which holds one thing of that name.

    Attributes:
        package: its full name. what: what one of them is called, in messages. suffix: of the files' names.
    """

    package: str
    what: str
    suffix: str = ""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names, sorted; files that begin with `_` hold none."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"{self.package} is no package of this installation; run `sh install.sh`")
        files = Path(spec.submodule_search_locations[0]).glob(f"[!_]*{self.suffix}.py")
        return tuple(sorted(path.stem.removesuffix(self.suffix) for path in files))

    def module(self, name: str) -> ModuleType:
        """Import and return the module of a name; ConfigError with the nearest, or all of them, where there is none."""
        if name not in self.names:
            raise ConfigError(f"there is no {self.what} `{name}`; {nearest(name, self.names)}")
        return importlib.import_module(f"{self.package}.{name}{self.suffix}")
