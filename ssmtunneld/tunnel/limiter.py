"""How often sessions may be started, per account and region (design D10)."""

import asyncio


class StartLimiter:
    """A token bucket in the form of the generic cell rate algorithm.

    Args:
        rate: Starts per second in the long run.
        burst: Starts that may come at once after a quiet time.
    """

    __slots__ = ("_interval", "_next_free", "_tolerance")

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._tolerance = (burst - 1) * self._interval
        self._next_free = float("-inf")

    async def acquire(self) -> None:
        """Wait for the next free place, first come, first served.

        Cancelling is safe; the place is then lost, which errs on the slow side.
        """
        now = asyncio.get_running_loop().time()
        place = max(self._next_free, now - self._tolerance)
        self._next_free = place + self._interval
        if place > now:
            await asyncio.sleep(place - now)
