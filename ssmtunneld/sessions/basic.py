"""Special rules for sessions that carry one connection each (protocol 6.4).

Such a session is used up by its connection, so the next one waits for a start of one to
two seconds unless a spare is there. A spare is connected to the destination already,
which can count or grow tired of visitors that say nothing: there are only as many as
connections have come together of late.
"""

from collections import deque
from typing import Final

from ssmtunneld.errors import ChannelClosed, DestinationRefused

TOGETHER: Final = 2.0
"""Seconds in which connections count as coming together: about what a start takes."""
MEMORY: Final = 60.0
"""Seconds for which a connection is expected to come again."""
# Of an agent (basic port), which has no other way to tell than to end the session.
_CANNOT_CONNECT: Final = "Unable to connect to specified port"


class RecentDemand:
    """Number of connections that have come together lately.

    Args:
        most: How many are of interest; no more than so many are remembered.
    """

    __slots__ = ("_times",)

    def __init__(self, most: int) -> None:
        self._times: deque[float] = deque(maxlen=most)

    def note(self, now: float) -> None:
        """Note that a connection has come."""
        self._times.append(now)

    def peak(self, now: float) -> int:
        """Return how many came within ``TOGETHER`` at most, in the last ``MEMORY``."""
        while self._times and self._times[0] <= now - MEMORY:
            self._times.popleft()
        together: deque[float] = deque()
        peak = 0
        for time in self._times:
            together.append(time)
            while together[0] <= time - TOGETHER:
                together.popleft()
            peak = max(peak, len(together))
        return peak


def is_refusal(end: ChannelClosed) -> bool:
    """Return True if a basic session ended because the destination refused."""
    return _CANNOT_CONNECT in end.output


def refusal(end: ChannelClosed) -> DestinationRefused:
    """Return what to tell a connection that waited for such a session."""
    return DestinationRefused(f"the target could not connect to it: {end.output}")
