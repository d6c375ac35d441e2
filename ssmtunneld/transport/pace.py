"""Whether messages come at a pace, with nothing to say in between.

The agent sends a message each 1.1 ms (protocol 6.8). To wake up for each of them, and
once more for its acknowledgement, costs eight times what the message itself does. So a
download that lasts is read the less often the longer it lasts: at first as ever, after
1.3 seconds some 24 times a second. None takes noticeably longer for it. Whatever we
send ends that, lest an answer wait.
"""

from typing import Final

WINDOW: Final = 0.1
"""Seconds in which messages are counted."""
LEAST: Final = 16
"""Messages in ``WINDOW``: with fewer there would be little to take together."""
MOST: Final = 250
"""Messages in ``WINDOW``: more than twice the agent's pace. Who can send as much may be
waiting for us."""
DOUBT: Final = 0.15
"""Seconds for which all of this must be so before reading rests at all."""
SHARE: Final = 1 / 32
"""Of the time that a download has lasted: what a rest adds to it at most."""
LONGEST: Final = 0.04
"""Seconds of one rest. The agent looks every 100 ms for a message that waits for its
acknowledgement for much longer than those before it (protocol 4.5); rests grow slowly
enough for it to get used to them."""


class Pace:
    """Counts what arrives on one link."""

    __slots__ = ("_arrived", "_since", "_until")

    def __init__(self) -> None:
        self._arrived = 0
        self._until = float("-inf")
        self._since: float | None = None

    def note_arrival(self, messages: int, now: float) -> None:
        """Count ``messages`` of the stream that arrived at ``now``, in seconds."""
        if now >= self._until:
            if self._arrived < LEAST or now >= self._until + WINDOW:
                self._since = None
            self._arrived = 0
            self._until = now + WINDOW
        self._arrived += messages
        if self._arrived > MOST:
            self._since = None
        elif self._since is None:
            self._since = now

    def note_sent(self) -> None:
        """Note a message of ours."""
        self._since = None

    def rest(self, now: float) -> float:
        """Return for how many seconds nothing need be read from ``now`` on."""
        lasted = 0.0 if self._since is None else now - self._since
        return min(LONGEST, SHARE * lasted) if lasted >= DOUBT else 0.0
