"""One accepted connection, from its socket to the totals of its transfer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ssmtunneld.base.on_error import on_error
from ssmtunneld.errors import StreamError, TunnelError
from ssmtunneld.listener.local import RECEIVE_MARK, LocalDuplex, reset
from ssmtunneld.listener.proxy.frontend import ProxyFrontend, ProxyHandshake
from ssmtunneld.listener.relay import (
    ClientClose,
    ConnectionOutcome,
    Meter,
    Transfer,
    relay,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from ssmtunneld.base.duplex import Duplex

_Opened = TypeVar("_Opened")


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """Snapshot of one connection; ``since`` is on the loop's clock."""

    peer: str
    since: float
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class StreamSource:
    """A source of streams that all have the same destination.

    Attributes:
        at_once: Returns a stream if there is one without waiting; asked first.
        open_stream: Returns a stream, or raises TunnelError if there is none.
    """

    at_once: Callable[[], Duplex | None]
    open_stream: Callable[[], Awaitable[Duplex]]


Opening: TypeAlias = "StreamSource | ProxyFrontend"
"""The way to a stream; a front end asks its client for the destination."""


class Connection:
    """A local connection that is joined to a stream.

    Attributes:
        peer: The client, as text.
        since: The time of its accept, on the loop's clock.
        meter: The bytes moved so far.
        transfer: The result; until the end, that of a connection that is cut now.
    """

    __slots__ = ("_result", "_socket", "meter", "peer", "since")

    def __init__(self, sock: socket.socket, peer: str, since: float) -> None:
        self._socket: socket.socket | None = sock
        self._result: Transfer | None = None
        self.peer = peer
        self.since = since
        self.meter = Meter()

    @property
    def transfer(self) -> Transfer:
        """The result; until the end, that of a connection that is cut now."""
        return self._result or self._summed(ConnectionOutcome.CANCELLED)

    async def join(self, opening: Opening, linger: float) -> None:
        """Open a stream and relay until the end; called once.

        Nothing but a bounded buffer is read from the client before there is a stream. A
        client that leaves meanwhile ends the wait, unless it left data to deliver.

        Cancelling is safe: the connection is reset, and the stream too.

        Args:
            opening: The way to a stream.
            linger: See :func:`relay`.
        """
        assert self._socket is not None, "joined twice"
        sock, self._socket = self._socket, None
        stream = opening.at_once() if isinstance(opening, StreamSource) else None
        if stream is not None:
            self._result = await self._join_at_once(sock, stream, linger)
            return
        local = await LocalDuplex.adopt(sock)
        handshake = _handshake(opening)
        with on_error(local.abort):
            try:
                ends = await _open(partial(handshake.open, local), local)
            except TunnelError as error:
                self._result = self._summed(ConnectionOutcome.REFUSED, error)
                await handshake.refuse(local, error)
                return
        if ends is None:
            local.abort()
            self._result = self._summed(ConnectionOutcome.LOCAL_RESET)
            return
        near, remote = ends
        self._result = await relay(
            near, remote, linger=linger, meter=self.meter, client_left=local.client_left
        )

    async def _join_at_once(
        self, sock: socket.socket, stream: Duplex, linger: float
    ) -> Transfer:
        """Send what came with the connect before the relay is set up.

        A transport and two tasks take as long as a message needs to the network.
        """
        with on_error(_reset_both, sock, stream):
            try:
                early = sock.recv(RECEIVE_MARK)
            except BlockingIOError:
                pass  # nothing yet, as of most servers' clients
            except OSError:
                _reset_both(sock, stream)
                return self._summed(ConnectionOutcome.LOCAL_RESET)
            else:
                self.meter.sent += len(early)
                with suppress(StreamError):  # the relay meets it too
                    await stream.send(early)
                await asyncio.sleep(0)  # here it goes
            local = await LocalDuplex.adopt(sock)
        return await relay(
            local,
            stream,
            linger=linger,
            meter=self.meter,
            client_left=local.client_left,
        )

    def view(self) -> ConnectionView:
        """Return a snapshot."""
        return ConnectionView(
            self.peer, self.since, self.meter.sent, self.meter.received
        )

    def fail(self) -> None:
        """Note that a defect ended it."""
        self._result = self._summed(ConnectionOutcome.FAILED)

    def release(self) -> None:
        """Reset the socket if the task that should have joined it never ran."""
        if self._socket is not None:
            reset(self._socket)

    def _summed(
        self, ending: ConnectionOutcome, cause: TunnelError | None = None
    ) -> Transfer:
        return Transfer(self.meter.sent, self.meter.received, ending, cause)


def _reset_both(sock: socket.socket, stream: Duplex) -> None:
    stream.abort()
    reset(sock)


def _handshake(opening: Opening) -> ProxyHandshake | _Plain:
    if isinstance(opening, ProxyFrontend):
        return opening.handshake()
    return _Plain(opening.open_stream)


class _Plain:
    """The counterpart of :class:`ProxyHandshake` for a single destination."""

    __slots__ = ("_open_stream",)

    def __init__(self, open_stream: Callable[[], Awaitable[Duplex]]) -> None:
        self._open_stream = open_stream

    async def open(self, local: Duplex) -> tuple[Duplex, Duplex]:
        """Return both ends."""
        return local, await self._open_stream()

    async def refuse(self, local: LocalDuplex, _error: TunnelError) -> None:
        """Reset the connection: raw TCP has no other way to refuse."""
        local.abort()


async def _open(
    opening: Callable[[], Awaitable[_Opened]], local: LocalDuplex
) -> _Opened | None:
    """Open a stream, or return None if the client leaves before there is one."""
    scope = asyncio.timeout(None)

    def leave(client_left: asyncio.Future[ClientClose]) -> None:
        # The data of a client that ended in order and left must still be delivered.
        if client_left.result() is ClientClose.RESET or not local.buffered:
            with suppress(RuntimeError):  # the scope is over already
                scope.reschedule(asyncio.get_running_loop().time())

    try:
        async with scope:
            local.client_left.add_done_callback(leave)
            return await opening()
    except TimeoutError:
        if scope.expired():
            return None
        raise
    finally:
        local.client_left.remove_done_callback(leave)
