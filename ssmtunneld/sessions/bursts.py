"""Numbers of connections that came at once, and can do so again. Pure.

Sessions share nothing but their agent, and each of them moves little (protocol 6.8): a
client that opens four connections at once, as browsers do, is four times as fast with
four sessions. A session takes a second or two to start, so they must be there before.
"""

from collections import deque
from typing import Final

BURST: Final = 4
"""Connections that are a burst if they come within ``WINDOW``."""
WINDOW: Final = 1.0
"""Seconds."""
HALF_LIFE: Final = 7200.0
"""Seconds after which half as many are expected as came."""
MOST: Final = 64
"""Connections that are told apart; a pool has never that many sessions to spare."""


class BurstMemory:
    """Remembers the greatest burst, ever less of it as time passes."""

    __slots__ = ("_arrivals", "_at", "_size")

    def __init__(self) -> None:
        self._arrivals: deque[float] = deque(maxlen=MOST)
        self._size = 0
        self._at = float("-inf")

    def note(self, now: float) -> None:
        """Note that a connection was given a stream."""
        arrivals = self._arrivals
        arrivals.append(now)
        while arrivals[0] < now - WINDOW:
            arrivals.popleft()
        if len(arrivals) >= max(BURST, self.expected(now)):
            self._size, self._at = len(arrivals), now

    def expected(self, now: float) -> int:
        """Return how many connections are likely at once; 0 if none did lately."""
        if not self._size:
            return 0
        left = round(self._size * 0.5 ** ((now - self._at) / HALF_LIFE))
        return left if left > 1 else 0
