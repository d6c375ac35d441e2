"""How often a call reaches the service, per account and region (design D10)."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final

MOST_CALLS: Final = 8
"""Calls that may be under way at a time: as many as there are threads to make them.
More would queue behind a slow one, and whatever a live session needs behind them."""


class Place:
    """The right to make one call, to be given back when it has been answered.

    Use it as a context manager around the call, or call :meth:`free` once nothing of
    the call can reach the service any more.
    """

    __slots__ = ("_answered",)

    def __init__(self, answered: Callable[[], None]) -> None:
        self._answered: Callable[[], None] | None = answered

    def free(self) -> None:
        """Say that the call was answered, failed, or is never made; idempotent."""
        answered, self._answered = self._answered, None
        if answered is not None:
            answered()

    def __enter__(self) -> None:
        """Begin the call."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the place back."""
        self.free()


class StartLimiter:
    """Keeps calls below a rate where they arrive: at the service.

    In any ``T`` seconds at most ``burst + rate * T`` calls arrive there, however long
    each of them is under way. All that is known of a call is that it arrives between
    its grant and its answer. So a call under way counts as if it could still arrive at
    any later moment, and one that was answered as if it had arrived just then.

    That is the generic cell rate algorithm with its books kept at the answers. Let
    ``I = 1 / rate`` and ``D = (burst - 1) * I``; let ``A`` be the theoretical arrival
    time and ``k`` the number of calls under way:

    * at ``s`` a call is granted only if ``max(A, s) + k * I <= s + D``; then ``k + 1``;
    * at its answer at ``e``, ``A`` becomes ``max(A, e) + I``, and ``k - 1``.

    Why this suffices: let ``B`` be what ``A`` would be if it were kept at the arrivals,
    by an observer at the service, and ``p <= k`` the number of granted calls that have
    not arrived. Then ``max(B, t) + p * I <= max(A, t) + k * I`` at all times ``t``: a
    grant adds ``I`` to both sides, an arrival and an answer change neither side, a call
    that never arrives lowers the left one, and while time passes a side that grows is
    ``t + p * I`` against at least ``t + k * I``. The right side never exceeds
    ``t + D + I``, because a grant looks at it first. So at an arrival at ``a``, where
    ``p >= 1``, ``B <= a + D``: the arrivals conform to the algorithm, whose bound is
    ``burst + rate * T``.

    The price: at most ``burst`` calls are under way, and the rate is reached in the
    long run only if ``burst`` is at least ``rate`` times the time that a call takes.

    A request that is still on its way when its caller gives up on the answer counts as
    arrived by then. One that is refused for its keys and at once repeated with new ones
    counts once: the service does not know whose rate the first one is.

    Args:
        rate: Calls per second in the long run.
        burst: Calls that may come at once after a quiet time.
    """

    __slots__ = ("_arrival", "_burst", "_calls", "_changed", "_interval", "_turn")

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._burst = burst
        self._arrival = float("-inf")
        self._calls = 0
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    def adjust(self, rate: float, burst: int) -> None:
        """Apply another rate and burst from the next call on."""
        # What calls have used up counts in calls, not in seconds of the rate before, or
        # after a slow rate a fast one would not begin for as long as the slow one said.
        interval, now = 1 / rate, asyncio.get_running_loop().time()
        if self._arrival > now:
            used = (self._arrival - now) / self._interval
            self._arrival = now + used * interval
        self._interval = interval
        self._burst = burst
        self._changed.set()

    async def place(self) -> Place:
        """Wait for the next free place, first come, first served.

        Whoever gets it must free it. Cancelling is safe: nothing is granted then.
        """
        loop = asyncio.get_running_loop()
        async with self._turn:
            while (free_at := self._free_at()) is None or free_at > loop.time():
                self._changed.clear()
                try:
                    async with asyncio.timeout_at(free_at):
                        await self._changed.wait()
                except TimeoutError:
                    pass
            # From here to the caller nothing waits, so that no grant is lost.
            self._calls += 1
            return Place(self._note_answer)

    def _free_at(self) -> float | None:
        """Return when the next call may be granted, unless something changes.

        ``None``: only after an answer.
        """
        if self._calls >= min(self._burst, MOST_CALLS):
            return None
        return self._arrival + (self._calls - self._burst + 1) * self._interval

    def _note_answer(self) -> None:
        now = asyncio.get_running_loop().time()
        self._calls -= 1
        self._arrival = max(self._arrival, now) + self._interval
        self._changed.set()
