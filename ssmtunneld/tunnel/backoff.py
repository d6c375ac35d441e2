"""When to try again: exponential, capped, with full jitter."""

from random import Random

from ssmtunneld.errors import Recovery


class Backoff:
    """Waits for one thing that keeps failing.

    Args:
        random: Where the jitter comes from.
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


def backoffs(random: Random) -> dict[Recovery, Backoff]:
    """Return how long to wait after a session's end, by what follows from it."""
    return {
        Recovery.RESUME: Backoff(random, base=0.5, cap=15.0),
        Recovery.RESTART: Backoff(random, base=0.5, cap=15.0),
        Recovery.WAIT: Backoff(random, base=4.0, cap=20.0),
        # A wrong request stays wrong; but whoever mends a document or a policy at AWS
        # should not have to restart anything.
        Recovery.STOP: Backoff(random, base=60.0, cap=600.0),
    }
