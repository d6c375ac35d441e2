"""Connections whose clients name the destination: asked first, then joined."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ssmtunneld.base.on_error import on_error
from ssmtunneld.config.destinations import allowed
from ssmtunneld.errors import StreamError
from ssmtunneld.listener.local import PARTING
from ssmtunneld.listener.proxy.http_connect import HttpConnect
from ssmtunneld.listener.proxy.protocol import (
    DestinationForbidden,
    ProxyProtocol,
    ProxyProtocolError,
    refusal_for,
)
from ssmtunneld.listener.proxy.socks5 import Socks5

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ssmtunneld.base.duplex import Duplex
    from ssmtunneld.config.destinations import Destination, Pattern
    from ssmtunneld.errors import TunnelError
    from ssmtunneld.listener.local import LocalDuplex

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds for a client to name its destination."""

_PROTOCOLS: Final[Mapping[str, type[Socks5 | HttpConnect]]] = {
    "socks5": Socks5,
    "http-connect": HttpConnect,
}


@dataclass(frozen=True, slots=True)
class ProxyFrontendSettings:
    """The protocol of the clients, and the destinations that they may ask for."""

    mode: Literal["socks5", "http-connect"]
    """The protocol."""
    patterns: tuple[Pattern, ...]
    """Allowed destinations; all others are refused."""


class ProxyFrontend:
    """Asks each client of a tunnel where it wants to go.

    Args:
        settings: The protocol and the patterns.
        open_stream: Returns a stream to a destination that is allowed, or raises
            TunnelError if there is none.

    Attributes:
        settings: May be replaced at any time; clients that have asked are not affected.
    """

    def __init__(
        self,
        settings: ProxyFrontendSettings,
        open_stream: Callable[[Destination], Awaitable[Duplex]],
    ) -> None:
        self.settings = settings
        self._open_stream = open_stream

    def handshake(self) -> ProxyHandshake:
        """Return what talks to one client."""
        return ProxyHandshake(self.settings, self._open_stream)


class ProxyHandshake:
    """One client, from its first word to the answer."""

    __slots__ = ("_open_stream", "_patterns", "_protocol")

    def __init__(
        self,
        settings: ProxyFrontendSettings,
        open_stream: Callable[[Destination], Awaitable[Duplex]],
    ) -> None:
        self._protocol: ProxyProtocol = _PROTOCOLS[settings.mode]()
        self._patterns = settings.patterns
        self._open_stream = open_stream

    async def open(self, local: Duplex) -> tuple[Duplex, Duplex] | None:
        """Return the client's end and a stream to where it wants to go.

        The agent does not tell whether it could connect (protocol 6.6), so the client
        is told of success when the stream is open; it is reset if that was wrong.

        Cancelling is safe: a stream that was opened is aborted, ``local`` is left.

        Returns:
            None if the client left before it was answered.

        Raises:
            TunnelError: There is no stream for it; tell it with :meth:`refuse`.
        """
        destination = await self._ask(local)
        if destination is None:
            return None
        if not allowed(self._patterns, destination):
            raise DestinationForbidden(destination)
        remote = await self._open_stream(destination)
        with on_error(remote.abort):
            told = await _say(local, self._protocol.accept())
        if not told:
            remote.abort()
            return None
        remainder = self._protocol.remainder
        return (_Reread(local, remainder) if remainder else local), remote

    async def refuse(self, local: LocalDuplex, error: TunnelError) -> None:
        """Send the reason of a refusal to the client; then close its connection.

        Takes seconds at most. Cancelling is safe: the connection is then reset.
        """
        if isinstance(error, ProxyProtocolError):
            answer = error.reply
        else:
            answer = self._protocol.refuse(refusal_for(error))
        try:
            if await _say(local, answer):
                await local.aclose(PARTING)
        finally:
            local.abort()

    async def _ask(self, local: Duplex) -> Destination | None:
        """Return what the client asks for, or None if it leaves instead."""
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                return await self._listen(local)
        except TimeoutError:
            reason = f"the client named no destination within {HANDSHAKE_TIMEOUT:g} s"
            raise ProxyProtocolError(reason, self._protocol.late()) from None

    async def _listen(self, local: Duplex) -> Destination | None:
        protocol = self._protocol
        while protocol.destination is None:
            try:
                data = await local.receive()
            except StreamError:
                return None
            if not data or not await _say(local, protocol.hear(data)):
                return None
        return protocol.destination


class _Reread:
    """A duplex of which some bytes have been read already."""

    __slots__ = ("_duplex", "_remainder")

    def __init__(self, duplex: Duplex, remainder: bytes) -> None:
        self._duplex = duplex
        self._remainder = remainder

    async def receive(self) -> bytes:
        """Return what was read too early, then what comes."""
        if self._remainder:
            remainder, self._remainder = self._remainder, b""
            return remainder
        return await self._duplex.receive()

    async def send(self, data: bytes) -> None:
        """As in :class:`Duplex`."""
        await self._duplex.send(data)

    async def send_eof(self) -> None:
        """As in :class:`Duplex`."""
        await self._duplex.send_eof()

    def abort(self) -> None:
        """As in :class:`Duplex`."""
        self._remainder = b""
        self._duplex.abort()

    async def aclose(self) -> None:
        """As in :class:`Duplex`."""
        await self._duplex.aclose()


async def _say(local: Duplex, data: bytes) -> bool:
    """Send ``data``, if any; return whether the client is still there."""
    try:
        if data:
            await local.send(data)
    except StreamError:
        return False
    return True
