"""When a connection is read: not while nobody takes it, and in turns with others."""

import asyncio
from typing import Final

from ssmtunneld.reading import SIZE, SmallReads
from ssmtunneld.transport.courtesy import PAUSE, Courtesy, Traffic

TURNS_OF_OTHERS: Final = 4
"""Turns of the loop between two reads of a busy socket: as many as an exchange on
another session needs from its local socket to the network. Each costs 3 us; with one,
an echo beside a download takes twice as long."""


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

    def yield_turn(self, size: int, now: float) -> None:
        """After a read, let others have their turns if they would wait otherwise.

        Args:
            size: Bytes that were read.
            now: The time, in seconds.
        """
        waits = self._traffic.should_wait(now)
        self._reads.limit = self._traffic.sip if waits else SIZE
        if self._yielding or not (waits or size >= SIZE):
            return
        self._yielding = True
        self._apply()
        if waits:
            self._loop.call_later(PAUSE, self._take_turn, 0)
        else:
            self._loop.call_soon(self._take_turn, TURNS_OF_OTHERS)

    def _take_turn(self, others: int) -> None:
        if others:
            self._loop.call_soon(self._take_turn, others - 1)
            return
        self._yielding = False
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
