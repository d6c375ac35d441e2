"""The agent's rest of one millisecond after each message (protocol 6.5).

Event loops count in whole milliseconds: asked for one they wait for anything between
nothing and two, and a loop that other sockets wake is the worse. So a thread waits,
which the kernel wakes within some 60 microseconds.
"""

import asyncio
import threading
import time
from heapq import heappop, heappush
from itertools import count
from typing import Self

from typing_extensions import override

_Waiting = tuple[float, int, asyncio.Future[None]]


class Pacer(threading.Thread):
    """Wakes the coroutines of one event loop; a context manager.

    The thread starts with the first rest, and has ended when the context has.
    """

    def __init__(self) -> None:
        super().__init__(name="emulator pace", daemon=True)
        self._changed = threading.Condition()
        self._order = count()
        self._waiting: list[_Waiting] = []
        self._over = False

    def __enter__(self) -> Self:
        """Do nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread; nobody who still rests is woken."""
        with self._changed:
            self._over = True
            self._changed.notify()
        if self.ident is not None:
            self.join()

    async def rest(self, seconds: float) -> None:
        """Return no less than ``seconds`` later; cancelling is safe."""
        # Not the loop's clock: uvloop's stands still for a millisecond.
        due = time.perf_counter() + seconds
        woken = asyncio.get_running_loop().create_future()
        with self._changed:
            heappush(self._waiting, (due, next(self._order), woken))
            if self._waiting[0][2] is woken:
                self._changed.notify()
        if self.ident is None:
            self.start()
        await woken

    @override
    def run(self) -> None:
        """Wake whoever is due, until the context ends."""
        with self._changed:
            while not self._over:
                due = self._take_due()
                if due:
                    due[0].get_loop().call_soon_threadsafe(_wake, due)
                self._changed.wait(self._patience())

    def _take_due(self) -> list[asyncio.Future[None]]:
        now = time.perf_counter()
        due = []
        while self._waiting and self._waiting[0][0] <= now:
            due.append(heappop(self._waiting)[2])
        return due

    def _patience(self) -> float | None:
        if not self._waiting:
            return None
        return max(0.0, self._waiting[0][0] - time.perf_counter())


def _wake(due: list[asyncio.Future[None]]) -> None:
    for woken in due:
        if not woken.done():
            woken.set_result(None)
