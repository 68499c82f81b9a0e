"""One command at a time writes one place: locks that the kernel frees with their process, however it ends."""

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common.errors import ProjectError
from common.io import make_folder

_TAKEN = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def hold(path: Path, busy: str, flag: str, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `path` in here; many may hold it `shared`, one alone otherwise. It is removed afterwards.

    Args:
        busy: the sentence for the user when somebody else holds it.
        flag: the option that chooses another place.

    Raises:
        ProjectError: somebody else holds it, or it cannot be written.
    """
    import fcntl

    while True:
        try:
            lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise ProjectError(
                f"cannot write in {path.parent}: {error.strerror}; choose another place with {flag}"
            ) from error
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                os.close(lock)
                raise ProjectError(busy) from error
            if error.errno not in _NO_LOCKS:
                os.close(lock)
                raise ProjectError(f"cannot lock {path}: {error.strerror}; choose another place with {flag}") from error
            print(
                f"note: {path.parent} is on a disk without locks: see to it that one run at a time writes there",
                file=sys.stderr,
            )
        if _is_still(path, lock):
            break
        os.close(lock)  # its holder has just removed it
    try:
        yield
    finally:
        if not shared:
            path.unlink(missing_ok=True)
        os.close(lock)


def _is_still(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def hold_folders(folders: Iterable[Path], shard: tuple[int, int] | None) -> Iterator[None]:
    """Hold the folders of products that a run of preprocess.py writes.

    Shards of one division (1/8, 2/8, …) write different videos and share the folders; nothing else does.

    Raises:
        ProjectError: another run writes one of them.
    """
    with ExitStack() as stack:
        for folder in sorted(set(folders)):
            make_folder(folder, "--output")
            busy = (
                f"another preprocess.py is writing {folder} now; wait for it, or choose another place with --output "
                "(parts of one dataset run side by side with --shard)"
            )
            stack.enter_context(hold(folder / ".preprocess.lock", busy, "--output", shared=shard is not None))
            if shard is None:
                continue
            stack.enter_context(hold(folder / f".preprocess.{shard[0]}-of-{shard[1]}.lock", busy, "--output"))
            for other in folder.glob(".preprocess.*-of-*.lock"):
                if not other.name.endswith(f"-of-{shard[1]}.lock"):
                    with hold(other, busy, "--output"):  # left by a run that was killed: nobody holds it
                        pass
        yield
