"""When a websocket is read: in turns with others, and not more often than pays.

Three ideas. Sessions share one processor, so a link that moves much reads less while
another one moves little (``ReadFairness``). The agent sends a message each 1.1 ms
(protocol 6.8); to wake up for each, and once more for its acknowledgement, costs eight
times what the message itself does, so a download that lasts is read the less often the
longer it lasts (``DownloadPace``). And nothing is read while nobody takes it
(``ReadScheduler``).
"""

import asyncio
from typing import Final

from ssmtunneld.base.bounded_reads import SIZE, BoundedReads

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


class ReadFairness:
    """What the links of one process know of each other."""

    __slots__ = ("_asked_at", "_asked_by")

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._asked_by: LinkTraffic | None = None

    def ask(self, traffic: "LinkTraffic", now: float) -> None:
        """Note that a link moves little at ``now``, in seconds."""
        self._asked_at = now
        self._asked_by = traffic

    def is_owed(self, traffic: "LinkTraffic", now: float) -> bool:
        """Whether another link than this one moved little a moment ago."""
        return now < self._asked_at + MEMORY and self._asked_by is not traffic


class LinkTraffic:
    """What one link moves.

    Args:
        fairness: Shared by all links that should wait for each other.
    """

    __slots__ = ("_busy", "_fairness", "_gained", "_moved", "_until")

    def __init__(self, fairness: ReadFairness) -> None:
        self._fairness = fairness
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
            self._fairness.ask(self, now)

    def should_wait(self, now: float) -> bool:
        """Whether to leave the next read to a link that moves little."""
        return self._busy and self._fairness.is_owed(self, now)


PACE_WINDOW: Final = 0.1
"""Seconds in which messages are counted."""
LEAST_MESSAGES: Final = 16
"""Messages in ``PACE_WINDOW``: with fewer there would be little to take together."""
MOST_MESSAGES: Final = 250
"""Messages in ``PACE_WINDOW``: more than twice the agent's pace. Who can send as much
may be
waiting for us."""
DOUBT: Final = 0.15
"""Seconds for which all of this must be so before reading rests at all."""
SHARE: Final = 1 / 32
"""Of the time that a download has lasted: what a rest adds to it at most."""
LONGEST: Final = 0.04
"""Seconds of one rest. The agent looks every 100 ms for a message that waits for its
acknowledgement for much longer than those before it (protocol 4.5); rests grow slowly
enough for it to get used to them."""


class DownloadPace:
    """Counts what arrives on one link."""

    __slots__ = ("_arrived", "_since", "_until")

    def __init__(self) -> None:
        self._arrived = 0
        self._until = float("-inf")
        self._since: float | None = None

    def note_arrival(self, messages: int, now: float) -> None:
        """Count ``messages`` of the stream that arrived at ``now``, in seconds."""
        if now >= self._until:
            if self._arrived < LEAST_MESSAGES or now >= self._until + PACE_WINDOW:
                self._since = None
            self._arrived = 0
            self._until = now + PACE_WINDOW
        self._arrived += messages
        if self._arrived > MOST_MESSAGES:
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


TURNS_OF_OTHERS: Final = 4
"""Turns of the loop between two reads of a busy socket: as many as an exchange on
another session needs from its local socket to the network. Each costs 3 us; with one,
an echo beside a download takes twice as long."""
LUMP: Final = 64 << 10
"""Bytes of a read after a rest: all that came meanwhile, at the agent's pace."""


class ReadScheduler:
    """Reads a transport, or lets it be.

    Args:
        transport: What is read; reads at the moment.
        reads: What the transport reads into.
        fairness: Shared with others that should have their turns.
    """

    def __init__(
        self, transport: asyncio.Transport, reads: BoundedReads, fairness: ReadFairness
    ) -> None:
        self._transport = transport
        self._reads = reads
        self._loop = asyncio.get_running_loop()
        self._traffic = LinkTraffic(fairness)
        self._yielding = False
        self._rest = 0.0
        self._resting: asyncio.TimerHandle | None = None
        self._transport_reads = True
        self.wanted = True
        """Whether anybody takes what is read; see :meth:`set_wanted`."""

    def set_wanted(self, *, wanted: bool) -> None:
        """Stop reading, or begin again."""
        self.wanted = wanted
        self._apply()

    def note_read(self, size: int, now: float) -> None:
        """Count a read of ``size`` bytes at ``now``, in seconds."""
        self._traffic.note_read(size, now)

    def note_written(self, size: int, now: float) -> None:
        """Count a write of ``size`` bytes at ``now``, in seconds."""
        self._traffic.note_written(size, now)

    def rest(self, seconds: float) -> None:
        """Leave the network alone for so long once the current read is over."""
        self._rest = seconds

    def end_rest(self) -> None:
        """Read at once, if this rests."""
        if self._resting is not None:
            self._resting.cancel()
            self._take_turn(0)

    def yield_turn(self, size: int, now: float) -> None:
        """After a read, let others have their turns if they would wait otherwise.

        Args:
            size: Bytes that were read.
            now: The time, in seconds.
        """
        waits = self._traffic.should_wait(now)
        rest, self._rest = self._rest, 0.0
        filled = size >= self._reads.limit
        self._reads.limit = self._traffic.sip if waits else LUMP if rest else SIZE
        if self._yielding or not (waits or filled or rest):
            return
        self._yielding = True
        self._apply()
        if waits:
            self._loop.call_later(PAUSE, self._take_turn, 0)
        elif filled:
            self._loop.call_soon(self._take_turn, TURNS_OF_OTHERS)
        else:
            self._resting = self._loop.call_later(rest, self._take_turn, 0)

    def _take_turn(self, others: int) -> None:
        if others:
            self._loop.call_soon(self._take_turn, others - 1)
            return
        self._yielding = False
        self._resting = None
        self._apply()

    def _apply(self) -> None:
        reads = self.wanted and not self._yielding
        if reads == self._transport_reads or self._transport.is_closing():
            return
        self._transport_reads = reads
        if reads:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
