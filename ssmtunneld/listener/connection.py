"""One accepted connection, from its socket to the totals of its transfer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.record import Record
from ssmtunneld.errors import StreamError, TunnelError
from ssmtunneld.listener.client import Client
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

    from ssmtunneld.base.duplex import Duplex, EagerDuplex
    from ssmtunneld.config.destinations import Destination

_Opened = TypeVar("_Opened")


class StreamSource(Record):
    """A source of streams that all have the same destination.

    Attributes:
        at_once: Returns a stream if there is one without waiting; asked first.
        open_stream: Returns a stream, or raises TunnelError if there is none.
    """

    at_once: Callable[[], EagerDuplex | None]
    open_stream: Callable[[], Awaitable[Duplex]]


Opening: TypeAlias = "StreamSource | ProxyFrontend"
"""The way to a stream; a front end asks its client for the destination."""


class Connection:
    """A local connection that is joined to a stream.

    Args:
        sock: The accepted socket.
        peer: The client's address, as text.
        since: The time of its accept, on the loop's clock.
        name: The identifier of the connection, unique in the process.
        client: Who the client is.
        opened: Called once, when it has its stream.

    Attributes:
        peer: The same one.
        since: The same one.
        name: The same one.
        client: The same one.
        meter: The bytes moved so far.
        remote: The stream that it is joined to; None while it waits for one.
        killed: True if an operator ends it.
        transfer: The result; until the end, that of a connection that is cut now.
    """

    __slots__ = (
        "_handshake",
        "_opened",
        "_result",
        "_socket",
        "_stream",
        "client",
        "killed",
        "meter",
        "name",
        "peer",
        "remote",
        "since",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        since: float,
        *,
        name: str = "",
        client: Client | None = None,
        opened: Callable[[Connection], None] | None = None,
    ) -> None:
        self._socket: socket.socket | None = sock
        self._stream: EagerDuplex | None = None
        self._result: Transfer | None = None
        self._handshake: ProxyHandshake | None = None
        self._opened = opened
        self.peer = peer
        self.since = since
        self.name = name
        self.client = client or Client()
        self.meter = Meter()
        self.remote: Duplex | None = None
        self.killed = False

    @property
    def destination(self) -> Destination | None:
        """The destination that its client has named, where clients name one."""
        return None if self._handshake is None else self._handshake.destination

    @property
    def transfer(self) -> Transfer:
        """The result; until the end, that of a connection that is cut now."""
        ending = ConnectionOutcome.CANCELLED
        if self.killed:
            ending = ConnectionOutcome.KILLED
        return self._result or self._summed(ending)

    def _enter(self, remote: Duplex) -> None:
        self.remote = remote
        if self._opened is not None:
            self._opened(self)

    def begin(self, opening: Opening) -> None:
        """Take a stream, and send what came with the connect, if that needs no waiting.

        For the turn of the loop in which the connection was accepted: a task, a
        transport and another turn take as long as a message needs to the network.

        Args:
            opening: The way to a stream; :meth:`join` gets the same.
        """
        assert self._socket is not None, "begun after it was joined"
        stream = opening.at_once() if isinstance(opening, StreamSource) else None
        if stream is None:
            return
        with on_error(stream.abort):
            try:
                early = self._socket.recv(RECEIVE_MARK)
            except BlockingIOError:
                early = b""  # nothing yet, as of most servers' clients
            except OSError:
                _reset_both(self._socket, stream)
                self._socket = None
                self._result = self._summed(ConnectionOutcome.LOCAL_RESET)
                return
            if early:
                self.meter.sent += len(early)
                with suppress(StreamError):  # the relay meets it too
                    stream.put(early)
        self._stream = stream

    async def join(self, opening: Opening, linger: float) -> None:
        """Open a stream, unless :meth:`begin` took one, and relay until the end.

        Nothing but a bounded buffer is read from the client before there is a stream. A
        client that leaves meanwhile ends the wait, unless it left data to deliver.

        Called once. Cancelling is safe: the connection is reset, and the stream too.

        Args:
            opening: The way to a stream.
            linger: See :func:`relay`.
        """
        if self._socket is None:
            return  # the client had left before
        sock, self._socket = self._socket, None
        stream, self._stream = self._stream, None
        if stream is not None:
            self._result = await self._join_begun(sock, stream, linger)
            return
        local = await LocalDuplex.adopt(sock)
        handshake = _handshake(opening)
        if isinstance(handshake, ProxyHandshake):
            self._handshake = handshake
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
        with on_error(local.abort), on_error(remote.abort):
            self._enter(remote)
        self._result = await relay(
            near, remote, linger=linger, meter=self.meter, client_left=local.client_left
        )

    async def _join_begun(
        self, sock: socket.socket, stream: Duplex, linger: float
    ) -> Transfer:
        with on_error(_reset_both, sock, stream):
            self._enter(stream)
            local = await LocalDuplex.adopt(sock)
        return await relay(
            local,
            stream,
            linger=linger,
            meter=self.meter,
            client_left=local.client_left,
        )

    def fail(self) -> None:
        """Note that a defect ended it."""
        self._result = self._summed(ConnectionOutcome.FAILED)

    def release(self) -> None:
        """Reset both ends if the task that should have joined them never ran."""
        if self._stream is not None:
            self._stream.abort()
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
