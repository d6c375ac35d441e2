"""When a connection is read: not while nobody takes it, and in turns with others."""

import asyncio
from typing import Final

from ssmtunneld.reading import SIZE, SmallReads
from ssmtunneld.transport.courtesy import PAUSE, Courtesy, Traffic

TURNS_OF_OTHERS: Final = 4
"""Turns of the loop between two reads of a busy socket: as many as an exchange on
another session needs from its local socket to the network. Each costs 3 us; with one,
an echo beside a download takes twice as long."""
LUMP: Final = 64 << 10
"""Bytes of a read after a rest: all that came meanwhile, at the agent's pace."""


class Intake:
    """Reads a transport, or lets it be.

    Args:
        transport: What is read; reads at the moment.
        reads: What the transport reads into.
        courtesy: Shared with others that should have their turns.
    """

    def __init__(
        self, transport: asyncio.Transport, reads: SmallReads, courtesy: Courtesy
    ) -> None:
        self._transport = transport
        self._reads = reads
        self._loop = asyncio.get_running_loop()
        self._traffic = Traffic(courtesy)
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
