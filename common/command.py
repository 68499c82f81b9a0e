"""The command `clipdeepfake` of an installation: `clipdeepfake predict …` is the program `python prediction/predict.py …`.

Nothing lists the programs: one is a file of a room that ends in `if __name__ == "__main__"`. Listing them imports none.
"""

import ast
import importlib
import sys
from pathlib import Path

from common.by_name import nearest
from common.cli import run
from common.errors import ConfigError

ROOT = Path(__file__).parents[1]
ROOMS = ("prediction", "training", "preprocessing", "analysis")
"""Where programs are, in the order in which a reader looks for them."""
PACKAGES = {"detectors": "training.detectors", "bench": "benchmarks"}
"""Programs that are a whole package."""
_GUARD = '\nif __name__ == "__main__":'


def programs() -> dict[str, str]:
    """Return the name of each program → the module that it is, room by room."""
    found = {
        path.stem: f"{room}.{path.stem}"
        for room in ROOMS
        for path in sorted((ROOT / room).glob("[!_]*.py"))
        if _GUARD in path.read_text(encoding="utf-8")
    }
    return found | {name: f"{package}.__main__" for name, package in PACKAGES.items()}


def listing() -> str:
    """Return what `clipdeepfake --help` prints: every program with the first line of its description."""
    known = programs()
    width = max(map(len, known))
    lines = ["usage: clipdeepfake COMMAND …        (clipdeepfake COMMAND --help tells about one)"]
    room = ""
    for name, module in known.items():
        if (its := module.partition(".")[0] if name not in PACKAGES else "more") != room:
            room = its
            lines += ["", f"{room}:"]
        text = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        lines.append(f"  {name:{width}}  {(ast.get_docstring(ast.parse(text)) or '').partition(chr(10))[0]}")
    return "\n".join(lines)


def main() -> int | None:
    """Run the program that the first word names, with the other words."""
    name, words = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if name in ("-h", "--help"):
        print(listing())
        return 0
    known = programs()
    if name not in known:
        raise ConfigError(f"there is no command `{name}`; {nearest(name, list(known))}")
    sys.argv = [f"clipdeepfake {name}", *words]  # what argparse calls the program
    return importlib.import_module(known[name]).main()


def entry() -> None:
    """Be the program `clipdeepfake`."""
    run(main)


if __name__ == "__main__":
    entry()
