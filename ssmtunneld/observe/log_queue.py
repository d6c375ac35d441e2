"""A bounded queue of lines in front of a file that can block.

A pipe that nobody reads and a terminal that somebody has stopped with Ctrl-S block
write(2) for as long as they like. So one thread writes, and everybody else only puts a
line into a queue of bounded size. What does not fit is counted, and told before the
next line that does.

The thread is a daemon thread, and writes past Python's buffers, whose locks the end of
the interpreter would wait for: the process can end while the thread is blocked.
"""

import os
import threading
import weakref
from collections import deque
from typing import Final, NamedTuple

from ssmtunneld.base.threads import NoThread, start
from ssmtunneld.observe.log_output import LogOutput

QUEUED_LINES: Final = 4096
"""Lines that wait to be written."""
QUEUED_SIZE: Final = 1_048_576
"""Characters of these lines together."""


class _Waiting(NamedTuple):
    lost: int
    """Lines that did not fit just before this text."""
    text: str
    lines: int
    """Lines that it has."""


class LogQueue:
    """Passes lines on to an outlet, in order, without ever waiting for it.

    May be used by any thread, and by both processes after a fork: the child begins with
    an empty queue, since its parent writes what was in it.

    Args:
        outlet: Writes; can block.
        lines: Lines that wait, at most.
        size: Characters that wait, at most.

    Attributes:
        outlet: The same one.
    """

    def __init__(
        self, outlet: LogOutput, *, lines: int = QUEUED_LINES, size: int = QUEUED_SIZE
    ) -> None:
        self.outlet = outlet
        self._lines = lines
        self._limit = size
        self._begin()
        _queues.add(self)

    def _begin(self) -> None:
        # Reentrant: a finalizer that the collector runs in here may log something too.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[_Waiting] = deque()
        self._size = 0
        self._pending = 0
        self._lost = 0
        # Lines that were lost here, and those of them that the outlet counts, too.
        self._dropped = self._passed_on = 0
        self._writing = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def renew(self) -> None:
        """Begin anew in a child process, which has none of its parent's threads."""
        self.outlet.renew()
        self._begin()

    @property
    def lost(self) -> int:
        """Lines that were lost since the last one that was not."""
        return self._lost + self.outlet.lost

    @property
    def lost_ever(self) -> int:
        """Lines that were lost since the beginning."""
        with self._changed:
            return self._dropped + self.outlet.lost_ever - self._passed_on

    def lose(self, lines: int) -> None:
        """Count ``lines`` that were lost before they came here."""
        with self._changed:
            self._lost += lines
            self._dropped += lines

    @property
    def waiting(self) -> int:
        """Lines that have not been written yet."""
        return self._pending

    def write(self, text: str) -> int:
        """Take whole lines to be written soon, or lose them. Never blocks.

        Returns:
            How much of ``text`` there was, as streams do.
        """
        lines = max(1, text.count("\n"))
        with self._changed:
            pending = self._pending - self._writing
            full = pending + lines > self._lines or self._size + len(text) > self._limit
            if full:
                self._lost += lines
                self._dropped += lines
            else:
                self._waiting.append(_Waiting(self._lost, text, lines))
                self._size += len(text)
                self._pending += lines
                self._lost = 0
                self._ensure_thread()
                self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing, as loggers call it after each line: see :meth:`drain`."""

    def drain(self, budget: float) -> bool:
        """Wait until everything is written, for ``budget`` seconds at most.

        Returns:
            Whether everything is.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and not self._writing, budget
            )

    def close(self) -> None:
        """Let the thread end once all is written; a later line starts another one."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _ensure_thread(self) -> None:
        if self._thread is not None:
            return
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        try:
            start(self._thread)
        except NoThread:
            # Too many threads, or the interpreter is ending: a later line tries again.
            self._thread = None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._pending -= self._writing
                self._writing = 0
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    self._thread = None
                    return
                lost, text, self._writing = self._waiting.popleft()
                self._size -= len(text)
                self.outlet.lose(lost)
                self._passed_on += lost
            self._write(text)

    def _write(self, text: str) -> None:
        try:
            self.outlet.write(text)
        except Exception:  # noqa: BLE001 - the log ends for nobody's mistake (D18)
            self.outlet.lose(max(1, text.count("\n")))


_queues: "weakref.WeakSet[LogQueue]" = weakref.WeakSet()


def _renew_all() -> None:
    for queue in list(_queues):
        queue.renew()


os.register_at_fork(after_in_child=_renew_all)
