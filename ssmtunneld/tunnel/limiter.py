"""How often sessions may be started, per account and region (design D10)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MOST_CALLS: Final = 8
"""Calls that may be under way at a time: as many as there are threads to make them.
More would queue behind a slow one, and then reach the service all at once."""


class StartLimiter:
    """A token bucket in the form of the generic cell rate algorithm.

    Args:
        rate: Starts per second in the long run.
        burst: Starts that may come at once after a quiet time.
    """

    __slots__ = ("_calls", "_fewer", "_interval", "_next_free", "_tolerance", "_turn")

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._tolerance = (burst - 1) * self._interval
        self._next_free = float("-inf")
        self._turn = asyncio.Lock()
        self._calls = 0
        self._fewer = asyncio.Event()

    async def acquire(self) -> None:
        """Wait for the next free place, first come, first served.

        Cancelling is safe; the place is then lost, which errs on the slow side.
        """
        async with self._turn:
            while self._calls >= MOST_CALLS:
                self._fewer.clear()
                await self._fewer.wait()
            now = asyncio.get_running_loop().time()
            place = max(self._next_free, now - self._tolerance)
            self._next_free = place + self._interval
            if place > now:
                await asyncio.sleep(place - now)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Count a call of the service as under way, from its place to its answer."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._fewer.set()
