"""A local connection as a ``Duplex``, directly on its transport.

There is no ``asyncio.StreamReader`` or ``StreamWriter`` in between: they would add a
copy of every byte and a task switch to every piece, and a download arrives as many
pieces of 1 KiB (protocol 6.8).
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, cast

from typing_extensions import override

from ssmtunneld.base.on_error import on_error
from ssmtunneld.errors import StreamReset
from ssmtunneld.listener.owner import peer_has_closed
from ssmtunneld.listener.relay import ClientClose

if TYPE_CHECKING:
    from typing import Self

# Reading stops once this much waits for `receive`. A transport reads at most 256 KiB at
# once, so that one connection holds at most 320 KiB; here, or as part of what its
# session could not send yet, and not in both.
RECEIVE_MARK: Final = 64 * 1024
# Unsent bytes for a slow client, in addition to the kernel's own buffer.
SEND_MARK: Final = 64 * 1024
# Time for a client to continue sending after all was sent to it; see `aclose`.
PARTING: Final = 1.0
# A client that left is not announced while nothing is read; so it is looked for, first
# soon, because most leave in one step with their end of file, then ever less often.
FIRST_LOOK: Final = 0.05
LAST_LOOK: Final = 15.0
# Where nothing is read, it holds up what others send; see design D21.
BLOCKED_LOOK: Final = 3.0

_LINGER: Final = struct.Struct("ii")  # struct linger: whether, and seconds


def reset_on_close(sock: socket.socket, *, enabled: bool = True) -> None:
    """Make closing ``sock`` a TCP reset: its peer sees an error, not an end of file.

    A Unix socket has no such thing. Its peer sees an error only if something that it
    sent was never read.
    """
    # Closed already: an OSError, from uvloop's sockets a ValueError.
    with suppress(OSError, ValueError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(enabled, 0))


def reset(sock: socket.socket) -> None:
    """Close ``sock`` at once, with a TCP reset: see :func:`reset_on_close`."""
    reset_on_close(sock)
    sock.close()


class LocalDuplex(asyncio.Protocol):
    """A ``Duplex`` over a TCP or Unix stream transport of asyncio or uvloop.

    Make it with :meth:`adopt`, or pass it to the loop as a protocol.

    Attributes:
        client_left: Completes when the client has left: at once if it resets the
            connection or if anything is read or written; else within seconds. A client
            that has only ended its own direction has not left.
    """

    __slots__ = (
        "_chunks",
        "_closer",
        "_inbound",
        "_loop",
        "_lost",
        "_reader",
        "_size",
        "_transport",
        "_watch",
        "_writable",
        "_writer",
        "client_left",
    )

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.client_left: asyncio.Future[ClientClose] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._inbound = _Inbound.FLOWING
        self._chunks: list[bytes] = []
        self._size = 0
        self._writable = True
        self._lost: str | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._closer: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None

    @property
    def buffered(self) -> int:
        """Bytes that have arrived and were not received yet."""
        return self._size

    @classmethod
    async def adopt(cls, sock: socket.socket) -> Self:
        """Take over a connected, non-blocking stream socket.

        Whatever closes it before :meth:`aclose` does resets it, be it the kernel after
        SIGKILL: half an answer must not look like a whole one.

        Cancelling is safe: the connection is then reset. The caller need not close
        ``sock``, but may.
        """
        duplex = cls()
        reset_on_close(sock)
        with on_error(sock.close), on_error(duplex.abort):
            await duplex._loop.connect_accepted_socket(lambda: duplex, sock)
        return duplex

    async def receive(self) -> bytes:
        """Return all that has arrived, at least one byte; ``b""`` at the end of file.

        Cancelling is safe: bytes stay until they are returned.

        Raises:
            StreamReset: The connection broke before its end of file.
        """
        while not self._chunks:
            if self._inbound is _Inbound.ENDED:
                return b""
            if self._lost is not None or self._inbound is _Inbound.CLOSED:
                raise StreamReset(self._lost or _CLOSED)
            assert self._reader is None, "two tasks receive"
            self._resume()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._take()

    async def send(self, data: bytes) -> None:
        """Write ``data``, then wait while too much of it is unsent.

        Cancelling is safe: ``data`` was accepted before the wait.

        Raises:
            StreamReset: The connection broke.
        """
        if self._lost is not None or self._transport is None:
            raise StreamReset(self._lost or _NOT_CONNECTED)
        self._transport.write(data)
        while not self._writable:
            assert self._writer is None, "two tasks send"
            self._writer = self._loop.create_future()
            try:
                await self._writer
            finally:
                self._writer = None
            if self._lost is not None:
                raise StreamReset(self._lost)

    async def send_eof(self) -> None:
        """End our direction once all is sent; idempotent, without effect when lost."""
        if self._lost is None and self._transport is not None:
            # Every transport here is a TCP or Unix stream: all of them can. The client
            # can have reset the connection and we have not been told yet.
            with suppress(OSError):
                self._transport.write_eof()

    def abort(self) -> None:
        """Reset the connection: a TCP client sees an error; idempotent."""
        if self._transport is None:
            return
        reset_on_close(self._transport.get_extra_info("socket"))
        self._transport.abort()
        self._drop(_Inbound.CLOSED)
        self._lose(_ABORTED)

    async def aclose(self, timeout: float | None = None) -> None:
        """Send what was accepted, then close; idempotent.

        What the client still sends is discarded, for ``PARTING`` seconds at most. A
        socket closed with unread data is reset (RFC 1122 section 4.2.2.13), and the
        client would lose the end of what was sent to it.

        Cancelling is safe: the connection is then reset.

        Args:
            timeout: Seconds for the client to take what was sent, before the
                connection is reset. None leaves it as much as it wants, as TCP does.
        """
        transport = self._transport
        if transport is None:
            return
        with suppress(TimeoutError), on_error(self.abort):
            async with asyncio.timeout(timeout):
                await self._flush(transport)
            await self._part(transport)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start; called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(SEND_MARK)
        sock = transport.get_extra_info("socket")
        with suppress(OSError):  # a Unix socket has no such option
            # asyncio sets it on its own connections, not on adopted ones.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @override
    def data_received(self, data: bytes) -> None:
        """Keep ``data`` for :meth:`receive`; called by the loop."""
        if self._inbound is _Inbound.CLOSED:
            return
        self._chunks.append(data)
        self._size += len(data)
        _wake(self._reader)
        if self._size >= RECEIVE_MARK and self._inbound is _Inbound.FLOWING:
            self._inbound = _Inbound.PAUSED
            assert self._transport is not None, "data without a connection"
            self._transport.pause_reading()
            self._start_watch()

    @override
    def eof_received(self) -> bool:
        """Note the client's end, and keep our direction open; called by the loop."""
        self._inbound = _Inbound.ENDED
        _wake(self._reader)
        _wake(self._closer)
        self._start_watch()
        return True

    @override
    def pause_writing(self) -> None:
        """Make :meth:`send` wait; called by the transport."""
        self._writable = False

    @override
    def resume_writing(self) -> None:
        """Wake :meth:`send`; called by the transport."""
        self._writable = True
        _wake(self._writer)
        _wake(self._closer)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything; called by the loop."""
        self._transport = None
        self._lose(f"the local connection broke: {exc}" if exc else _CLOSED)
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        return data

    def _resume(self) -> None:
        # Not before more is wanted: what was taken is held until the session has room,
        # and a client that goes on would fill the same memory once more.
        if self._inbound is _Inbound.PAUSED:
            self._inbound = _Inbound.FLOWING
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def _drop(self, inbound: _Inbound) -> None:
        self._inbound = inbound
        self._chunks.clear()
        self._size = 0

    def _lose(self, reason: str) -> None:
        """From here on every call fails, save reading the rest of a whole message."""
        if self._lost is None:
            self._lost = reason
        ended = self._inbound is _Inbound.ENDED
        if not ended:
            self._drop(_Inbound.CLOSED)
        self._leave(ClientClose.CLOSED if ended else ClientClose.RESET)
        for waiter in (self._reader, self._writer, self._closer):
            _wake(waiter)

    def _leave(self, departure: ClientClose) -> None:
        if not self.client_left.done():
            self.client_left.set_result(departure)

    async def _flush(self, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(0)  # paused until the very last byte is sent
        while not self._writable and self._lost is None:
            await self._change()

    async def _part(self, transport: asyncio.Transport) -> None:
        # All is with the kernel, which would throw it away with a reset; see `adopt`.
        reset_on_close(transport.get_extra_info("socket"), enabled=False)
        if not self.client_left.done():  # else it was told before
            await self.send_eof()
        if self._inbound is not _Inbound.ENDED and self._lost is None:
            if self._inbound is _Inbound.PAUSED:
                transport.resume_reading()
            self._drop(_Inbound.CLOSED)
            _wake(self._reader)
            with suppress(TimeoutError):
                async with asyncio.timeout(PARTING):
                    while self._inbound is _Inbound.CLOSED and self._lost is None:
                        await self._change()
        transport.close()
        while self._transport is not None:
            await self._change()

    async def _change(self) -> None:
        assert self._closer is None, "two tasks close"
        self._closer = self._loop.create_future()
        try:
            await self._closer
        finally:
            self._closer = None

    def _start_watch(self) -> None:
        if self._watch is None:
            self._watch = self._loop.call_later(FIRST_LOOK, self._look, FIRST_LOOK)

    def _look(self, interval: float) -> None:
        """Check for a client that has left while no event would report it."""
        self._watch = None
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._inbound is _Inbound.FLOWING:
            return
        happened = _poll(transport.get_extra_info("socket"))
        if self._inbound is _Inbound.PAUSED and happened & select.POLLERR:
            self.abort()
        elif self._inbound is _Inbound.PAUSED and (
            happened & select.POLLHUP or _closed(transport)
        ):
            # Behind what it sent and nobody has read yet, it has closed. If there is no
            # room for all of that here, its end of file is not here either.
            self._leave(ClientClose.CLOSED)
        elif self._inbound is _Inbound.ENDED and (
            happened & (select.POLLERR | select.POLLHUP) or _closed(transport)
        ):
            self._leave(ClientClose.CLOSED)
        else:
            most = BLOCKED_LOOK if self._inbound is _Inbound.PAUSED else LAST_LOOK
            interval = min(2 * interval, most)
            self._watch = self._loop.call_later(interval, self._look, interval)


class _Inbound(Enum):
    FLOWING = auto()
    PAUSED = auto()  # enough is buffered: the kernel's window closes
    ENDED = auto()  # the client's end of file has been read
    CLOSED = auto()  # we want no more: discarded


_NOT_CONNECTED: Final = "not connected"
_CLOSED: Final = "closed by us"
_ABORTED: Final = "reset by us"


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _closed(transport: asyncio.Transport) -> bool:
    local = transport.get_extra_info("sockname")
    peer = transport.get_extra_info("peername")
    # A Unix socket's names are paths, if anything; there `_poll` tells.
    return isinstance(peer, tuple) and peer_has_closed(local, peer)


def _poll(sock: socket.socket) -> int:
    """Return the conditions that the kernel reports of a socket without being asked."""
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return sum(conditions for _, conditions in poll.poll(0))
