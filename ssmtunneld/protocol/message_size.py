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


class MessageSize:
    """Chooses the payload of the next bulk message of one channel."""

    __slots__ = ("_limit", "size")

    def __init__(self) -> None:
        self.size = MAX_PAYLOAD
        """Bytes of payload that the next message of a bulk upload can have."""
        self._limit = MAX_PAYLOAD

    @property
    def limit(self) -> int:
        """The greatest size, in bytes; never below ``MAX_PAYLOAD``."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = max(limit, MAX_PAYLOAD)
        self.size = min(self.size, self._limit)

    def choose(self, rate: float) -> None:
        """Choose for an agent that takes ``rate`` bytes per second."""
        # Whole KiB, so that noise in the rate is none in the size.
        fitting = int(rate * WAIT) // MAX_PAYLOAD * MAX_PAYLOAD
        self.size = min(max(fitting, MAX_PAYLOAD), self._limit)

    def reset(self) -> None:
        """Begin with small messages again: the path is a new one."""
        self.size = MAX_PAYLOAD
