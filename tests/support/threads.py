"""A system that allows no further thread, as with ``TasksMax`` and ``ulimit -u``."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def no_thread(after: int = 0) -> Iterator[None]:
    """Let no thread be started, in Python's words, as long as the block runs.

    Args:
        after: Threads that are started all the same, before the first refusal.
    """
    start, left = threading.Thread.start, after

    def refuse(thread: threading.Thread) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    with mock.patch.object(threading.Thread, "start", refuse):
        yield
