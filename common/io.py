"""Files that are either whole or not there: atomic writes and JSON reading with errors that name the file."""

import errno
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.errors import DataError, ProjectError

# As `tempfile` names them; with an ending, without which a folder's hidden files may be anybody's.
_RANDOM, _TEMPORARY = r"\.[a-z0-9_]{8}", r"\.[^/]*(?P<ending>\.[^./]+)"
# What is not the fault of the one file that was being written, and would meet the next one too.
NO_PLACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; on success it is synced to disk and renamed over `path`, else removed.

    What writes of the same file left behind when they were killed is removed first.

    Raises ProjectError when the folder cannot be written or the disk is full; `path` then keeps its old content.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent, path.name)
        handle, temporary = _held_sibling(path)
    except OSError as error:
        raise ProjectError(f"cannot write {path}: {error.strerror}; choose a folder that can be written") from error
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes private files; results are meant to be read by colleagues.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise ProjectError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: str | os.PathLike[str], name: str | None = None) -> None:
    """Remove what killed writes by `atomic_path` left in a folder, of one file or of all; what is being written now stays."""
    of_one = rf"\.{re.escape(name)}{_RANDOM}{re.escape(Path(name).suffix)}" if name else None
    pattern = re.compile(of_one or rf"{_TEMPORARY}{_RANDOM}(?P=ending)")
    try:
        there = list(os.scandir(os.fspath(folder)))
    except OSError:
        return
    for entry in there:
        if not pattern.fullmatch(entry.name):
            continue
        try:
            handle = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(entry.path)
        except OSError:
            pass  # it is being written, or the file system cannot tell
        finally:
            os.close(handle)


def _held_sibling(path: Path) -> tuple[int, Path]:
    """Make a temporary file beside `path`; its lock, which ends with this process, says that it is not abandoned."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else another process took it for abandoned before it was locked
            return handle, Path(name)
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def make_folder(path: str | os.PathLike, said_by: str) -> Path:
    """Make a folder and its parents; returns it.

    Args:
        said_by: the flag or key that named it, for the message.

    Raises:
        ProjectError: it cannot be made, or a file is in its place.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProjectError(
            f"{said_by}: cannot make the folder {folder} ({error.strerror}); choose a place that can be written"
        ) from error
    return folder


def atomic_write(path: str | os.PathLike, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path` so that a reader sees the old file or the whole new one."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused, for readers in other languages."""
    atomic_write(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


class RepeatedKey(ValueError):
    """An object of a JSON text holds a key twice, with two different values."""


def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object from its members, for `object_pairs_hook`; RepeatedKey where two members contradict each other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise RepeatedKey(key)
    return found


def decode_json_text(data: Any) -> str:
    """Return a JSON file's bytes as text: UTF-8, or what its byte-order mark says; raises UnicodeDecodeError."""
    text = str(data, json.detect_encoding(bytes(data[:4])).removesuffix("-sig"))
    return text.removeprefix("\ufeff")


@contextmanager
def json_faults_named(path: str | os.PathLike, error: type[ProjectError] = DataError) -> Iterator[None]:
    """Turn what a JSON file can do wrong, while it is read and parsed, into `error` with the file and the place."""
    try:
        yield
    except FileNotFoundError as cause:
        raise error(f"no such file: {path}") from cause
    except json.JSONDecodeError as cause:
        raise error(
            f"{path} is not valid JSON (line {cause.lineno}, column {cause.colno}: {cause.msg}); "
            "it may be truncated: write or download it again"
        ) from cause
    except RepeatedKey as cause:
        raise error(
            f"{path}: the key `{cause}` stands twice in one object, with different contents; keep one of the two"
        ) from cause
    except RecursionError as cause:
        raise error(f"{path} is nested too deep to be read; write or download it again") from cause
    except (OSError, ValueError) as cause:  # ValueError: no text, a number of thousands of digits
        raise error(f"cannot read {path}: {cause}") from cause


def read_json(path: str | os.PathLike, error: type[ProjectError] = DataError) -> Any:
    """Return the content of a JSON file; a missing or damaged one raises `error` with the place of the damage."""
    with json_faults_named(path, error):
        return json.loads(decode_json_text(Path(path).read_bytes()), object_pairs_hook=unrepeated)
