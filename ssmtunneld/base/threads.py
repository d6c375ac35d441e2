"""Threads where the system allows no more of them.

Services have a limit (``TasksMax``), users (``ulimit -u``), and containers (of pids):
somebody else can use it up, for a while. Python says so by a ``RuntimeError``, which is
what defects look like, and after some things have happened that cannot be undone.
"""

import errno
import threading
from typing import Final

_WORDS: Final = (
    "no further thread can be started: see TasksMax of the unit, ulimit -u, or the "
    "container's limit of pids"
)


class NoThread(OSError):
    """The system lets this process start no further thread now."""

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, _WORDS)


def start(thread: threading.Thread) -> None:
    """Start ``thread``.

    Raises:
        NoThread: The system does not allow it.
    """
    try:
        thread.start()
    except RuntimeError:
        raise NoThread from None
