"""A ``Duplex`` in memory: two ends joined by two bounded buffers, and no sockets."""

from __future__ import annotations

import asyncio

from ssmtunneld.errors import StreamReset


def memory_pair(
    capacity: int = 64 * 1024, *, half_close: bool = True
) -> tuple[MemoryDuplex, MemoryDuplex]:
    """Return the two ends of a new connection.

    Args:
        capacity: Bytes that a direction holds before ``send`` waits.
        half_close: False for a stream as the agent makes it (protocol 6.6): the end of
            either direction ends the other too, and what is sent later is lost.
    """
    there, back = _Pipe(capacity), _Pipe(capacity)
    return MemoryDuplex(back, there, half_close), MemoryDuplex(there, back, half_close)


class MemoryDuplex:
    """One end of a connection in memory.

    Attributes:
        aborted: Whether :meth:`abort` was called on this end.
        closed: Whether :meth:`aclose` was called on this end.
    """

    def __init__(self, inbound: _Pipe, outbound: _Pipe, half_close: bool) -> None:
        self._inbound = inbound
        self._outbound = outbound
        self._half_close = half_close
        self.aborted = False
        self.closed = False

    @property
    def unread(self) -> int:
        """Bytes that have arrived and were not received yet."""
        return self._inbound.size

    async def receive(self) -> bytes:
        """Return the oldest chunk as it was sent; see ``Duplex``."""
        return await self._inbound.get()

    def put(self, data: bytes) -> None:
        """Accept ``data``; see ``EagerDuplex``."""
        self._outbound.put(data)

    async def send(self, data: bytes) -> None:
        """Accept ``data``, then wait for room; see ``Duplex``."""
        self._outbound.put(data)
        await self._outbound.drain()

    async def send_eof(self) -> None:
        """End the outgoing direction; see ``Duplex``."""
        self._outbound.end()
        if not self._half_close:
            self._inbound.end()

    def abort(self) -> None:
        """Break both directions; see ``Duplex``."""
        self.aborted = True
        self._inbound.fail("the connection was aborted")
        self._outbound.fail("the connection was aborted")

    async def aclose(self) -> None:
        """End the outgoing direction and take nothing more; see ``Duplex``."""
        self.closed = True
        self._outbound.end()
        self._inbound.abandon()


class _Pipe:
    """One direction: chunks, and how it ends."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._chunks: list[bytes] = []
        self._ended = False
        self._abandoned = False
        self._failure: str | None = None
        self._changed = asyncio.Event()
        self.size = 0

    async def get(self) -> bytes:
        while not self._chunks:
            if self._failure is not None:
                raise StreamReset(self._failure)
            if self._ended:
                return b""
            if self._abandoned:
                raise StreamReset("closed")
            await self._change()
        data = self._chunks.pop(0)
        self.size -= len(data)
        self._changed.set()
        return data

    def put(self, data: bytes) -> None:
        self._check()
        self._chunks.append(data)
        self.size += len(data)
        self._changed.set()

    async def drain(self) -> None:
        while self.size > self._capacity:
            await self._change()
            self._check()

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    def abandon(self) -> None:
        """Nobody will read any more: what was not read is lost."""
        self._abandoned = True
        self._discard()

    def fail(self, reason: str) -> None:
        if not self._ended or self._chunks:
            self._failure = self._failure or reason
        self._abandoned = True
        self._discard()

    def _discard(self) -> None:
        self._chunks.clear()
        self.size = 0
        self._changed.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise StreamReset(self._failure)
        if self._ended or self._abandoned:
            raise StreamReset("the other end takes no more")

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
