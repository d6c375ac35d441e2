"""Reading little at a time, so that one busy socket does not hold up the rest."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from typing_extensions import override

SIZE: Final = 16 << 10
"""Bytes of one read. An event loop would take 256 KB: 240 messages, and several
milliseconds in which no other session moves."""


class _Shared(threading.local):
    """The buffer of a thread; a loop has one thread."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(SIZE))


_shared: Final = _Shared()


class BoundedReads(asyncio.BufferedProtocol):
    """Stands between a transport and its protocol, and limits each read.

    To be set with ``transport.set_protocol``; everything is passed on.

    Args:
        protocol: Whose ``data_received`` is called.
        size: Bytes that it gets at most at a time.

    Attributes:
        limit: Bytes of the next read; ``size`` at first.
    """

    def __init__(self, protocol: asyncio.Protocol, size: int = SIZE) -> None:
        self.limit = size
        self._protocol = protocol
        # A read is over, and copied, before the loop begins another one: so all of a
        # thread share a buffer. Each of 500 links would keep one of its own, 8 MiB.
        self._buffer = _shared.buffer

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        if self.limit > len(self._buffer):
            if self.limit > len(_shared.buffer):
                _shared.buffer = memoryview(bytearray(self.limit))
            self._buffer = _shared.buffer
        return self._buffer[: self.limit]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(self._buffer[:nbytes]))

    @override
    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._protocol.resume_writing()
