"""The size of the messages of a bulk upload (design D22).

A payload of ``MAX_PAYLOAD`` bytes is always taken; larger ones are used up to a limit
that somebody has found out. A keystroke on the same session waits for the message that
is just being sent, so a message is no larger than what leaves in ``WAIT`` at the rate
at which the agent has acknowledged bytes lately.
"""

from typing import Final

from ssmtunneld.protocol.message import MAX_PAYLOAD

WAIT: Final = 0.002
"""Seconds that one message may take at the measured rate."""
INTERVAL: Final = 0.02
"""Seconds over which the rate is measured, at least; otherwise a round trip, because
acknowledgements come in bursts."""


class MessageSize:
    """Chooses the payload of the next bulk message of one channel."""

    __slots__ = ("_begun", "_delivered", "_limit", "size")

    def __init__(self) -> None:
        self.size = MAX_PAYLOAD
        """Bytes of payload that the next message of a bulk upload can have."""
        self._limit = MAX_PAYLOAD
        self._begun = 0.0
        self._delivered = 0

    @property
    def limit(self) -> int:
        """The greatest size, in bytes; never below ``MAX_PAYLOAD``."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = max(limit, MAX_PAYLOAD)
        self.size = min(self.size, self._limit)

    def measure(self, now: float, delivered: int, round_trip: float) -> None:
        """Choose again, if it is time to.

        A pause counts as part of the time in which it lies: whoever begins again after
        one begins with small messages, for one interval.

        Args:
            now: The time, in seconds.
            delivered: Bytes that were acknowledged since the beginning.
            round_trip: Seconds.
        """
        elapsed = now - self._begun
        if elapsed < INTERVAL or elapsed < round_trip:
            return
        rate = (delivered - self._delivered) / elapsed
        self._begun = now
        self._delivered = delivered
        self.choose(rate)

    def choose(self, rate: float) -> None:
        """Choose for an agent that takes ``rate`` bytes per second."""
        # Whole KiB, so that noise in the rate is none in the size.
        fitting = int(rate * WAIT) // MAX_PAYLOAD * MAX_PAYLOAD
        self.size = min(max(fitting, MAX_PAYLOAD), self._limit)

    def reset(self) -> None:
        """Begin with small messages again: the path is a new one."""
        self.size = MAX_PAYLOAD
