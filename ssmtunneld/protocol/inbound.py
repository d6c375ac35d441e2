"""Reordering of messages that arrived early (protocol 4.3, design D2)."""

from collections.abc import Iterator
from typing import Final

from ssmtunneld.protocol.message import Message

MAX_EARLY: Final = 80_000
"""Messages that wait for an earlier one, and numbers to be ahead, at most: what
the agent sends in a minute and a half (protocol 6.8)."""
MAX_EARLY_BYTES: Final = 32 << 20
"""Bytes of them: what it sends in half a minute."""
MAX_EARLY_TOTAL: Final = 48 << 20
"""The same of all sessions of the process together."""
EARLY_SHARE: Final = 256 << 10
"""Bytes that each session has in any case, whatever the other sessions keep."""
OVERHEAD: Final = 400
"""Bytes that CPython needs for one buffered message in addition to its payload."""


class EarlyTotal:
    """The bytes that wait in several sessions together.

    Attributes:
        used: How many.
    """

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


_process: Final = EarlyTotal()


class Inbound:
    """The receiving half of a channel's reliability.

    Args:
        total: Shared with the other sessions; by default with all of the process.
    """

    __slots__ = (
        "_early",
        "_early_bytes",
        "_newest",
        "_total",
        "duplicates",
        "expected",
        "overflows",
    )

    def __init__(self, total: EarlyTotal = _process) -> None:
        self._total = total
        self.expected = 0
        """The sequence number that is delivered next."""
        self.duplicates = 0
        self.overflows = 0
        self._early: dict[int, Message] = {}
        self._early_bytes = 0
        self._newest = -1

    def __del__(self) -> None:
        """Give back what it holds of the total."""
        self.clear()

    def clear(self) -> None:
        """Forget what waits: the session is over."""
        self._early.clear()
        self._note(-self._early_bytes)

    def _note(self, more: int) -> None:
        self._early_bytes += more
        self._total.used += more

    @property
    def early(self) -> int:
        """Messages that wait for one before them."""
        return len(self._early)

    @property
    def missing(self) -> int:
        """Messages that those wait for, as far as is known."""
        known = self._newest + 1 - self.expected
        return known - len(self._early) if self._early else 0

    def take_next(self, message: Message) -> bool:
        """Return True if ``message`` can be handled at once: then it counts as handled.

        Nearly all can. To keep each of them for a moment costs twice as much.
        """
        if message.sequence != self.expected or self._early:
            return False
        self._newest = self.expected
        self.expected += 1
        return True

    def accept(self, message: Message) -> bool:
        """Take ``message`` into memory; return whether to acknowledge it.

        Everything that was ever taken is acknowledged again, because a repeat means
        that our acknowledgement was lost, and an agent whose oldest message is never
        acknowledged repeats it forever and nothing behind it (protocol 4.5). Only what
        does not fit is left to the agent to send again.
        """
        sequence = message.sequence
        if sequence < self.expected or sequence in self._early:
            self.duplicates += 1
            return True
        cost = len(message.payload) + OVERHEAD
        if sequence > self.expected and (
            sequence > self.expected + MAX_EARLY
            or len(self._early) >= MAX_EARLY
            or self._early_bytes + cost > self._limit
        ):
            self.overflows += 1
            return False
        self._newest = max(self._newest, sequence)
        self._early[sequence] = message
        self._note(cost)
        return True

    @property
    def _limit(self) -> int:
        """Bytes that may wait here: what all others leave, and a share in any case."""
        left = MAX_EARLY_TOTAL - (self._total.used - self._early_bytes)
        return min(MAX_EARLY_BYTES, max(EARLY_SHARE, left))

    @property
    def is_ready(self) -> bool:
        """Return True if :meth:`ready` would yield a message."""
        return self.expected in self._early

    def ready(self) -> Iterator[Message]:
        """Yield, and forget, the messages that are next in sequence.

        ``expected`` moves before a message is yielded, so that whatever its handling
        does, it is never delivered twice (protocol 8, trap 3).
        """
        while (message := self._early.pop(self.expected, None)) is not None:
            self._note(-len(message.payload) - OVERHEAD)
            self.expected += 1
            yield message
