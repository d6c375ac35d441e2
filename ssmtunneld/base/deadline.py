"""A time at which the process ends, even if it hangs.

A thread in a system call cannot be cancelled, and both asyncio and the interpreter wait
for their threads at the end. So the last word has a thread of its own, which waits for
nothing but its time.
"""

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from ssmtunneld.base.threads import NoThread, start

REPORT_TIME: Final = 0.4
"""Limit in seconds of the report, which can hang too."""


class Deadline:
    """Ends the process at a time that is set once it is to end.

    A context manager around everything that can hang.

    Args:
        report: Says what is left; called in a thread, shortly before the end.
        end: Ends the process with a code.
        clock: Returns the time in seconds.

    Attributes:
        code: The exit code: a failure, until it is set.
    """

    def __init__(
        self,
        report: Callable[[], None],
        *,
        end: Callable[[int], object] = os._exit,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.code = 1
        self._report = report
        self._end = end
        self._clock = clock
        self._at: float | None = None
        self._over = False
        self._reading, self._writing = -1, -1
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin to wait: a signal's handler must not start threads.

        Where the system allows no thread, nothing ends the process but itself.
        """
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        waiting = threading.Thread(target=self._wait, name="deadline", daemon=True)
        with suppress(NoThread):
            start(waiting)
            self._thread = waiting
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop waiting, unless a time is set: the interpreter can hang as well."""
        if self._at is None and self._thread is not None:
            self._over = True
            self._wake()
            self._thread.join()
            os.close(self._reading)
            os.close(self._writing)

    def arm(self, seconds: float) -> None:
        """End the process in ``seconds`` at the latest; safe in signal handlers.

        A later time than the one that is set does not count.
        """
        at = self._clock() + seconds
        if self._at is None or at < self._at:
            self._at = at
            self._wake()

    def disarm(self) -> None:
        """Stop the timer: the process ends by itself."""
        self._at = None

    def _wake(self) -> None:
        with suppress(OSError):  # full: then it wakes anyway
            os.write(self._writing, b".")

    def _wait(self) -> None:
        while not self._over:
            at = self._at
            left = None if at is None else at - self._clock()
            if left is not None and left <= 0:
                self._expire()
                return
            if select.select([self._reading], [], [], left)[0]:
                os.read(self._reading, 64)

    def _expire(self) -> None:
        reporting = threading.Thread(target=self._report, name="report", daemon=True)
        with suppress(NoThread):
            start(reporting)
            reporting.join(REPORT_TIME)
        self._end(self.code)
