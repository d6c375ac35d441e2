"""Delays between attempts: exponential, capped, with full jitter."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

from ssmtunneld.errors import AwsError, Recovery, Throttled, TunnelError

_Answer = TypeVar("_Answer")

DEMAND_INTERVAL: Final = 2.0
"""Seconds between attempts, at most, while a local connection waits."""
THROTTLED: Final = 1.0
"""Seconds before a throttled call is repeated, at least; doubled each time."""


def passes(error: TunnelError) -> bool:
    """Return whether ``error`` can be over in seconds, without anybody's help."""
    return isinstance(error, AwsError) and error.passes


class Persistence:
    """The waits of somebody who wants one answer and has limited time.

    They are those of a daemon with a connection that waits, and longer ones while AWS
    throttles.

    Args:
        random: Where the jitter comes from.
        until: When to give up, on the loop's clock.
    """

    __slots__ = ("_retries", "_throttled", "_until")

    def __init__(self, random: Random, until: float) -> None:
        self._retries = Retries(random)
        self._until = until
        self._throttled = 0

    async def pause(self, error: TunnelError) -> bool:
        """Wait before the next attempt; say whether there is a next one.

        There is none after an error that stays, or if it would come too late.
        Cancelling is safe.
        """
        now = asyncio.get_running_loop().time()
        if not passes(error):
            return False
        delay = min(DEMAND_INTERVAL, self._retries.note_end(error.recovery, now))
        if isinstance(error, Throttled):
            delay += THROTTLED * 2**self._throttled
            self._throttled += 1
        if now + delay >= self._until:
            return False
        await asyncio.sleep(delay)
        return True


async def persist(
    attempt: Callable[[], Awaitable[_Answer]], random: Random, until: float
) -> _Answer:
    """Return what ``attempt`` returns, repeated after errors that pass.

    Cancelling is safe if it is for ``attempt``.

    Args:
        attempt: One call.
        random: Where the jitter comes from.
        until: When to give up, on the loop's clock.

    Raises:
        TunnelError: The last one of ``attempt``.
    """
    persistence = Persistence(random, until)
    while True:
        try:
            return await attempt()
        except TunnelError as error:
            if not await persistence.pause(error):
                raise


class Backoff:
    """Waits for one thing that keeps failing.

    Args:
        random: The source of the jitter.
        base: Seconds; the first wait is anything up to this.
        cap: Seconds; no wait is longer.
    """

    __slots__ = ("_base", "_cap", "_failures", "_random")

    def __init__(self, random: Random, *, base: float, cap: float) -> None:
        self._random = random
        self._base = base
        self._cap = cap
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures since the last reset."""
        return self._failures

    def next(self) -> float:
        """Count one failure; return the seconds to wait before the next attempt.

        Full jitter (a uniform choice up to the exponential bound) keeps many clients
        that failed together from coming back together.
        """
        # 2**32 is beyond any cap, and keeps the float finite.
        bound = min(self._cap, self._base * 2 ** min(self._failures, 32))
        self._failures += 1
        return self._random.uniform(0, bound)

    def reset(self) -> None:
        """Start over: it worked, or the network is another one."""
        self._failures = 0


class Retries:
    """The time at which the next session can start after the end of one.

    Each kind of recovery has delays of its own.

    Args:
        random: The source of the jitter.
    """

    __slots__ = ("_backoffs", "_last_start", "_not_before")

    def __init__(self, random: Random) -> None:
        self._not_before = self._last_start = float("-inf")
        self._backoffs = {
            Recovery.RESUME: Backoff(random, base=0.5, cap=15.0),
            Recovery.RESTART: Backoff(random, base=0.5, cap=15.0),
            Recovery.WAIT: Backoff(random, base=4.0, cap=20.0),
            # A wrong request stays wrong; but who mends a document or a policy at
            # AWS should not have to restart anything.
            Recovery.STOP: Backoff(random, base=60.0, cap=600.0),
        }

    def note_start(self, now: float) -> None:
        """Note that a session is started."""
        self._last_start = now

    def next_start(self, *, wanted: bool) -> float:
        """Return the time of the next attempt; ``wanted`` if a connection waits."""
        if wanted:
            return min(self._not_before, self._last_start + DEMAND_INTERVAL)
        return self._not_before

    def note_end(self, recovery: Recovery, now: float) -> float:
        """Count an end; return the seconds until something is tried again."""
        delay = self._backoffs[recovery].next()
        self._not_before = max(self._not_before, now + delay)
        return delay

    def reset(self) -> None:
        """Begin with short waits again: something worked."""
        for backoff in self._backoffs.values():
            backoff.reset()

    def retry_at(self, now: float) -> None:
        """Wait no longer than until ``now``, and begin with short waits again."""
        self.reset()
        self._not_before = now

    def left(self, now: float) -> float | None:
        """Return the seconds that are left to wait; ``None`` if none are."""
        return self._not_before - now if self._not_before > now else None
