"""What every command line of the project shares: one-sentence errors, exit codes, `--debug`."""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from common.errors import ProjectError
from common.io import NO_PLACE

_SETTING = re.compile(r"[A-Za-z_][\w.-]*=")

# What every library that the numbers reach can hold: 32 bits, of a seed without the sign.
MOST, MOST_SEED = 2**31 - 1, 2**32 - 1


def whole(low: int = -MOST, high: int = MOST) -> Callable[[str], int]:
    """Return the `type` of a flag that is a whole number from `low` to `high`."""

    def number(text: str) -> int:
        # Before it is converted: Python refuses thousands of digits in words of its own.
        if not re.fullmatch(r"[-+]?[0-9_]{1,20}", text.strip()) or not low <= (value := int(text)) <= high:
            raise argparse.ArgumentTypeError(f"{text[:40]} is no whole number from {low} to {high}")
        return value

    return number


def program(otherwise: str) -> str:
    """Return what a package's program calls itself: a word of the command `clipdeepfake`, or `python -m …`."""
    return sys.argv[0] if sys.argv[0].startswith("clipdeepfake ") else otherwise


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every command understands."""
    parser.add_argument("--debug", action="store_true", help="show the full traceback of an error")


def add_set(parser: argparse.ArgumentParser, what: str = "any key of the configuration") -> None:
    """Add `--set KEY=VALUE …`, once with several or several times with one; words that are no `KEY=VALUE` stay arguments."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"{what}; several may follow, and it may be repeated",
    )
    parse = parser.parse_known_args

    # argparse would also give --set the files that follow it.
    def one_by_one(args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        return parse(_one_set_each(sys.argv[1:] if args is None else args), namespace)

    parser.parse_known_args = one_by_one  # type: ignore[method-assign,assignment]


def _one_set_each(words: Sequence[str]) -> list[str]:
    """Write `--set a=1 b=2` as `--set a=1 --set b=2`."""
    done: list[str] = []
    inside = False
    for word in words:
        first = inside and done[-1] == "--set"
        inside = word == "--set" or word.startswith("--set=") or (inside and (first or bool(_SETTING.match(word))))
        if inside and not first and not word.startswith("--set"):
            done.append("--set")
        done.append(word)
    return done


def figures(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits, and never as a power of ten: 0.0427, 12.3, 1234."""
    if not math.isfinite(value) or not value:
        return f"{value:g}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` as a program: exit 0 on success, 2 on the user's errors (one line), 130 on Ctrl-C."""
    try:
        code = main()
    except ProjectError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader (`head`, say) has gone; what remains to be flushed has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in NO_PLACE or "--debug" in sys.argv:
            raise
        place = error.filename or "what was to be written"
        print(
            f"error: cannot write {place}: {error.strerror}; free some space or choose another place", file=sys.stderr
        )
        sys.exit(2)
    sys.exit(code or 0)
