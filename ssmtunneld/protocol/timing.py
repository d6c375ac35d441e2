"""Round-trip time and retransmission timeout (RFC 6298)."""

from typing import Final

INITIAL_TIMEOUT: Final = 1.0
"""Seconds, before anything was measured (RFC 6298 section 2.1)."""
MIN_TIMEOUT: Final = 0.2
"""Seconds. RFC 6298 asks for 1 s; the agent starts at 0.2 s (protocol 4.5), and so does
Linux. Much less and a delayed acknowledgement would look like a loss."""
MAX_TIMEOUT: Final = 15.0
"""Seconds. An agent that is blocked by a slow destination acknowledges nothing for
minutes (protocol 6.7): then at most one window is repeated in this time."""
GRANULARITY: Final = 0.01
"""Seconds: the agent's own clock granularity (protocol 4.5)."""


class RoundTrip:
    """Smoothed round-trip time and the timeout that follows from it."""

    __slots__ = ("_backoff", "_deviation", "smoothed")

    def __init__(self) -> None:
        self.smoothed: float | None = None
        """Seconds; ``None`` until a first sample."""
        self._deviation = 0.0
        self._backoff = 1

    def sample(self, rtt: float) -> None:
        """Fold in one measurement, in seconds, and end the backing off.

        Callers must not pass the round trip of a message that they sent twice: the
        acknowledgement does not say which copy it answers (Karn's rule).
        """
        if self.smoothed is None:
            self.smoothed = rtt
            self._deviation = rtt / 2
        else:
            # The deviation uses the mean from before this sample (RFC 6298 2.3).
            self._deviation += (abs(self.smoothed - rtt) - self._deviation) / 4
            self.smoothed += (rtt - self.smoothed) / 8
        self._backoff = 1

    def back_off(self) -> None:
        """Double the timeout, because it passed without an answer (RFC 6298 5.5)."""
        if self.timeout < MAX_TIMEOUT:
            self._backoff *= 2

    def reset_backoff(self) -> None:
        """Forget the doubling: the path is a new one."""
        self._backoff = 1

    @property
    def timeout(self) -> float:
        """Seconds after which an unacknowledged message is sent again."""
        if self.smoothed is None:
            base = INITIAL_TIMEOUT
        else:
            base = self.smoothed + max(GRANULARITY, 4 * self._deviation)
        return min(max(base, MIN_TIMEOUT) * self._backoff, MAX_TIMEOUT)
