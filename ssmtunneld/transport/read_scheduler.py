"""The schedule of reads from websockets: fair between links, and no more than pays.

Three ideas. Sessions share one processor, so a busy link (``LinkTraffic``) reads less
while another link is quiet (``ReadFairness``, shared by all links). The agent sends a
message each 1.1 ms (protocol 6.8); to wake up for each, and once more for its
acknowledgement, costs eight times as much as the message itself, so the longer a
download lasts, the less often its link is read (``DownloadPace``). And no link is read
while the local side does not take what arrived (``ReadScheduler``, one for each link,
which applies all three).
"""

import asyncio
from typing import Final

from ssmtunneld.base.bounded_reads import SIZE, BoundedReads

BUSY_BYTES: Final = 64 << 10
"""Bytes both ways within ``WINDOW`` that make a link busy."""
WINDOW: Final = 0.05
"""Seconds: the agent sends 35 KiB in this time at most (protocol 6.8)."""
UNCOUNTED_BYTES: Final = 1 << 10
"""Bytes of each read or write that do not count: those of a keystroke, its echo and the
acknowledgements. A program that takes turns with its server without a pause moves 100
KiB of them within ``WINDOW``; if they made its link busy, no link would yield to it."""
PRIORITY_TIME: Final = 0.02
"""Seconds for which a quiet link has priority after it was last active."""
YIELD_TIME: Final = 0.002
"""Seconds between two reads of a busy link while a quiet link has priority.
An echo during a download then takes 0.5 ms in the median and 1.4 in one of a hundred,
instead of 1.3 and more than 4; alone, 0.5 and 0.8."""
YIELDING_SIZE: Final = 8 << 10
"""Bytes of such a read. With ``YIELD_TIME`` they make 4 MB/s; twice as many, and one
echo in a hundred takes 1.8 ms, because the peer's next burst is twice as long."""
YIELDING_ANSWER_SIZE: Final = 2 << 10
"""Bytes of such a read on a link that sends more than it reads: seven acknowledgements,
each of which makes room for another message."""


class ReadFairness:
    """The most recent quiet link, shared by all links of one process."""

    __slots__ = ("_quiet_at", "_quiet_link")

    def __init__(self) -> None:
        self._quiet_at = float("-inf")
        self._quiet_link: LinkTraffic | None = None

    def note_quiet(self, link: "LinkTraffic", now: float) -> None:
        """Note that ``link`` moves little data at ``now``, in seconds."""
        self._quiet_at = now
        self._quiet_link = link

    def favours_others(self, link: "LinkTraffic", now: float) -> bool:
        """Return True if a link other than ``link`` has priority at ``now``."""
        return now < self._quiet_at + PRIORITY_TIME and self._quiet_link is not link


class LinkTraffic:
    """The recent traffic of one link.

    Args:
        fairness: Shared by all links that yield to each other.
    """

    __slots__ = ("_busy", "_fairness", "_gained", "_moved", "_until")

    def __init__(self, fairness: ReadFairness) -> None:
        self._fairness = fairness
        self._moved = 0
        self._gained = 0  # bytes read without those written, the recent ones more
        self._until = float("-inf")
        self._busy = False

    @property
    def yielding_size(self) -> int:
        """Bytes to read at a time while this link yields."""
        return YIELDING_SIZE if self._gained >= 0 else YIELDING_ANSWER_SIZE

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
            self._busy = self._moved >= BUSY_BYTES and now < self._until + WINDOW
            self._until = now + WINDOW
            self._moved = 0
            self._gained >>= 1
        self._moved += max(0, size - UNCOUNTED_BYTES)
        if self._moved >= BUSY_BYTES:
            self._busy = True
        if not self._busy:
            self._fairness.note_quiet(self, now)

    def should_wait(self, now: float) -> bool:
        """Return True if the next read should wait for a quiet link."""
        return self._busy and self._fairness.favours_others(self, now)


PACE_WINDOW: Final = 0.1
"""Seconds in which messages are counted."""
MIN_MESSAGES: Final = 16
"""Messages in ``PACE_WINDOW``: with fewer there would be little to read together."""
MAX_MESSAGES: Final = 250
"""Messages in ``PACE_WINDOW``: more than twice the agent's pace. A sender that is so
fast could be waiting for us."""
MIN_DURATION: Final = 0.15
"""Seconds that a download must last before its reads are delayed."""
DELAY_SHARE: Final = 1 / 32
"""The longest delay, as a share of the time that the download has lasted."""
MAX_DELAY: Final = 0.04
"""Seconds of one delay. The agent looks every 100 ms for a message that has waited for
its acknowledgement much longer than those before it (protocol 4.5); delays grow slowly
enough for the agent to adapt to them."""


class DownloadPace:
    """Detects a steady download on one link."""

    __slots__ = ("_arrived", "_since", "_until")

    def __init__(self) -> None:
        self._arrived = 0
        self._until = float("-inf")
        self._since: float | None = None

    def note_arrival(self, messages: int, now: float) -> None:
        """Count ``messages`` of the stream that arrived at ``now``, in seconds."""
        if now >= self._until:
            if self._arrived < MIN_MESSAGES or now >= self._until + PACE_WINDOW:
                self._since = None
            self._arrived = 0
            self._until = now + PACE_WINDOW
        self._arrived += messages
        if self._arrived > MAX_MESSAGES:
            self._since = None
        elif self._since is None:
            self._since = now

    def note_sent(self) -> None:
        """Note a message of ours: the peer could be waiting for the next."""
        self._since = None

    def delay(self, now: float) -> float:
        """Return the seconds from ``now`` on for which nothing need be read."""
        lasted = 0.0 if self._since is None else now - self._since
        return min(MAX_DELAY, DELAY_SHARE * lasted) if lasted >= MIN_DURATION else 0.0


TURNS_BETWEEN_READS: Final = 4
"""Turns of the loop between two reads of a busy socket: as many as an exchange on
another session needs from its local socket to the network. Each costs 3 us; with one,
an echo during a download takes twice as long."""
DELAYED_SIZE: Final = 64 << 10
"""Bytes of a read after a delay: all that the agent sends meanwhile, at its pace."""


class ReadScheduler:
    """Pauses and resumes the reads of one transport.

    Args:
        transport: The transport, which is paused when this is made.
        reads: The buffer that the transport reads into.
        fairness: Shared by all links that yield to each other.
    """

    def __init__(
        self, transport: asyncio.Transport, reads: BoundedReads, fairness: ReadFairness
    ) -> None:
        self._transport = transport
        self._reads = reads
        self._loop = asyncio.get_running_loop()
        self._link = LinkTraffic(fairness)
        self._yielding = False
        self._delay = 0.0
        self._delayed: asyncio.TimerHandle | None = None
        self._started = False
        self._transport_reads = False
        self.wanted = True
        """True while the local side takes what is read; see :meth:`set_wanted`."""

    def start(self) -> None:
        """Begin to read, unless nothing is wanted."""
        self._started = True
        self._apply()

    def set_wanted(self, *, wanted: bool) -> None:
        """Start or stop reading."""
        self.wanted = wanted
        self._apply()

    def note_read(self, size: int, now: float) -> None:
        """Count a read of ``size`` bytes at ``now``, in seconds."""
        self._link.note_read(size, now)

    def note_written(self, size: int, now: float) -> None:
        """Count a write of ``size`` bytes at ``now``, in seconds."""
        self._link.note_written(size, now)

    def delay(self, seconds: float) -> None:
        """Read nothing for ``seconds`` once the current read is over."""
        self._delay = seconds

    def end_delay(self) -> None:
        """Read at once if the next read is delayed."""
        if self._delayed is not None:
            self._delayed.cancel()
            self._take_turn(0)

    def yield_turn(self, size: int, now: float) -> None:
        """Pause after a read if another link, or a delay, asks for it.

        Args:
            size: Bytes that were read.
            now: The time, in seconds.
        """
        yields = self._link.should_wait(now)
        delay, self._delay = self._delay, 0.0
        filled = size >= self._reads.limit
        if yields:
            self._reads.limit = self._link.yielding_size
        else:
            self._reads.limit = DELAYED_SIZE if delay else SIZE
        if self._yielding or not (yields or filled or delay):
            return
        self._yielding = True
        self._apply()
        if yields:
            self._loop.call_later(YIELD_TIME, self._take_turn, 0)
        elif filled:
            self._loop.call_soon(self._take_turn, TURNS_BETWEEN_READS)
        else:
            self._delayed = self._loop.call_later(delay, self._take_turn, 0)

    def _take_turn(self, turns: int) -> None:
        if turns:
            self._loop.call_soon(self._take_turn, turns - 1)
            return
        self._yielding = False
        self._delayed = None
        self._apply()

    def _apply(self) -> None:
        reads = self._started and self.wanted and not self._yielding
        if reads == self._transport_reads or self._transport.is_closing():
            return
        self._transport_reads = reads
        if reads:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
