"""Who moves much waits for who moves little.

Sessions share one processor. A download that the network brings as fast as it is taken
keeps it busy, and with it, on a small machine, everything else that a keystroke on
another session needs on its way. So while there is such another session, the busy one
reads less, and less often: still five times as fast as the agent sends (protocol 6.8).
"""

from typing import Final

MUCH: Final = 64 << 10
"""Bytes both ways within ``WINDOW`` that make a link busy."""
WINDOW: Final = 0.05
"""Seconds: the agent sends 35 KiB in this time at most (protocol 6.8)."""
FREE: Final = 1 << 10
"""Bytes of each read or write that do not count: those of a keystroke, its echo and the
acknowledgements. A program that takes turns with its server without a pause moves 100
KiB of them within ``WINDOW``; if they made it busy, nobody would wait for it."""
MEMORY: Final = 0.02
"""Seconds for which traffic of another link is reason to wait."""
PAUSE: Final = 0.002
"""Seconds between two reads of a busy link, as long as it has reason to wait.
An echo beside a download then takes 0.5 ms in the median and 1.4 in one of a hundred,
instead of 1.3 and more than 4; alone, 0.5 and 0.8."""
SIP: Final = 8 << 10
"""Bytes of such a read. With ``PAUSE`` they make 4 MB/s; twice as many, and one echo in
a hundred takes 1.8 ms, because the peer's next burst is twice as long."""
SIP_OF_ANSWERS: Final = 2 << 10
"""Bytes of such a read on a link that sends more than it reads. Seven acknowledgements,
each of which lets another message go."""


class Courtesy:
    """What the links of one process know of each other."""

    __slots__ = ("_asked_at", "_asked_by")

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._asked_by: Traffic | None = None

    def ask(self, traffic: "Traffic", now: float) -> None:
        """Note that a link moves little at ``now``, in seconds."""
        self._asked_at = now
        self._asked_by = traffic

    def is_owed(self, traffic: "Traffic", now: float) -> bool:
        """Whether another link than this one moved little a moment ago."""
        return now < self._asked_at + MEMORY and self._asked_by is not traffic


class Traffic:
    """What one link moves.

    Args:
        courtesy: Shared by all links that should wait for each other.
    """

    __slots__ = ("_busy", "_courtesy", "_gained", "_moved", "_until")

    def __init__(self, courtesy: Courtesy) -> None:
        self._courtesy = courtesy
        self._moved = 0
        self._gained = 0  # bytes read without those written, the recent ones more
        self._until = float("-inf")
        self._busy = False

    @property
    def sip(self) -> int:
        """Bytes to read at a time as long as it waits."""
        return SIP if self._gained >= 0 else SIP_OF_ANSWERS

    def note_read(self, size: int, now: float) -> None:
        """Count a read of ``size`` bytes at ``now``, in seconds."""
        self._note(size, now)
        self._gained += size

    def note_written(self, size: int, now: float) -> None:
        """Count a write of ``size`` bytes at ``now``, in seconds."""
        self._note(size, now)
        self._gained -= size

    def _note(self, size: int, now: float) -> None:
        if now >= self._until:
            self._busy = self._moved >= MUCH and now < self._until + WINDOW
            self._until = now + WINDOW
            self._moved = 0
            self._gained >>= 1
        self._moved += max(0, size - FREE)
        if self._moved >= MUCH:
            self._busy = True
        if not self._busy:
            self._courtesy.ask(self, now)

    def should_wait(self, now: float) -> bool:
        """Whether to leave the next read to a link that moves little."""
        return self._busy and self._courtesy.is_owed(self, now)
