"""Walk a large index file one video at a time.

`json.load` turns an index of ten million frames into ten million Python strings at once. Here only the file's text and the
paths of one video are in memory; the objects between are descended into, not built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from json import JSONDecodeError
from typing import Any

from common.io import RepeatedKey, unrepeated

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(object_pairs_hook=unrepeated)
Place = tuple[str, ...]


def leaves(text: str) -> Iterator[tuple[Place, Any]]:
    """Yield (keys that lead there, value) for every innermost object of a JSON text, in the order of the file.

    An object is innermost when its first value is no object; it is yielded whole. Plain values that stand among
    objects are yielded together, after them, at the place of the object that holds them all. A member that an object holds
    twice with one value counts once.

    Raises:
        RepeatedKey: it holds one twice with different values; the key with those that lead there.
        JSONDecodeError: the text is damaged or ends too early; it says where.
    """
    end = yield from _descend(text, 0, ())
    end = _skip(text, end)
    if end != len(text):
        raise JSONDecodeError("Extra data", text, end)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _after(text: str, at: int, wanted: str) -> int:
    """Return the position behind the next token, which must be one of the `wanted` characters."""
    at = _skip(text, at)
    if at >= len(text) or text[at] not in wanted:
        raise JSONDecodeError(f"Expecting {' or '.join(wanted)}", text, at)
    return at + 1


def _key(text: str, at: int) -> tuple[str, int]:
    """Return a member's key and the position of its value."""
    at = _skip(text, at)
    if text[at : at + 1] != '"':
        raise JSONDecodeError("Expecting a key in double quotes", text, at)
    key, at = _DECODER.raw_decode(text, at)
    return key, _skip(text, _after(text, at, ":"))


def _holds_objects(text: str, at: int) -> bool:
    """Return whether the object that begins at `at` has an object as its first value."""
    inner = _skip(text, at + 1)
    if text[inner : inner + 1] != '"':
        return False
    return text.startswith("{", _key(text, inner)[1])


def _descend(text: str, at: int, place: Place) -> Generator[tuple[Place, Any], None, int]:
    at = _skip(text, at)
    if not text.startswith("{", at) or not _holds_objects(text, at):
        value, end = _DECODER.raw_decode(text, at)
        yield place, value
        return end
    beside: dict[str, Any] = {}
    seen: dict[str, int] = {}
    while True:
        key, at = _key(text, at + 1)
        if seen.setdefault(key, at) != at:
            at = _same_again(text, seen[key], at, (*place, key))
        elif text.startswith("{", at):
            at = yield from _descend(text, at, (*place, key))
        else:
            beside[key], at = _DECODER.raw_decode(text, at)
        at = _after(text, at, ",}") - 1
        if text[at] == "}":
            break
    if beside:
        yield place, beside
    return at + 1


def _same_again(text: str, before: int, at: int, place: Place) -> int:
    """Return the end of a member's second value; RepeatedKey when it is another one than the first."""
    value, end = _DECODER.raw_decode(text, at)
    if _DECODER.raw_decode(text, before)[0] != value:
        raise RepeatedKey("/".join(place))
    return end
