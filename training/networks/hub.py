"""Ask for published weights so that a machine without the network hears it at once, and once."""

from __future__ import annotations

import io
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("clipdeepfake")
# Seconds after which a hub that has not answered counts as out of reach; the libraries themselves try for a minute.
_PATIENCE = 6.0


def fetched(ask: Callable[[], T]) -> T:
    """Return what `ask` fetches, or finds in the library's cache; where the hub is out of reach it looks there alone.

    Raises:
        Exception: what the library raises; ConnectionError where the hub is out of reach.
    """
    if _reachable():
        return ask()
    with _offline():
        try:
            return ask()
        except (OSError, ValueError, RuntimeError) as error:
            if "offline" in f"{type(error).__name__} {error}".lower() or isinstance(error, FileNotFoundError):
                raise ConnectionError("the hub is out of reach") from error
            raise


def _reachable() -> bool:
    """Return whether the hub answers anything within a few seconds, through whatever proxy is set up."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    answered, done = threading.Event(), threading.Event()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
            answered.set()
        except Exception:  # of whichever library lies underneath
            log.debug("the hub does not answer", exc_info=True)
        done.set()

    # Looking up a name has no time limit of its own, so that it is given one here.
    threading.Thread(target=ask, daemon=True).start()
    done.wait(_PATIENCE)
    return answered.is_set()


@contextmanager
def _offline() -> Iterator[None]:
    """Let Hugging Face's library look into its cache only, and it and others say nothing meanwhile."""
    from huggingface_hub import constants

    before, level, patience = constants.HF_HUB_OFFLINE, logging.root.manager.disable, socket.getdefaulttimeout()
    constants.HF_HUB_OFFLINE = True
    logging.disable(logging.CRITICAL)
    socket.setdefaulttimeout(_PATIENCE)  # other places than the hub may answer
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(patience)
        constants.HF_HUB_OFFLINE = before
        logging.disable(level)
