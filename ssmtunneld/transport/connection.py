"""A connection of the websockets library that hands over what arrives (design D4).

The library brings the upgrade, TLS, proxies, control frames and the close. Its receive
queue is bypassed by the hook that it documents for this (``create_connection``), and
its parser for all frames that are plain (``frames.py``).
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from typing_extensions import override
from websockets import exceptions, frames
from websockets.asyncio.client import ClientConnection, connect
from websockets.protocol import State

from ssmtunneld.errors import LinkError, LinkLost
from ssmtunneld.transport.frames import FrameReader, Head

MAX_MESSAGE: Final = 4 << 20
"""Bytes. The service sends 1144; peers have no limit at all (protocol 2.1, trap 25)."""


class Receiver(Protocol):
    """What a connection tells of itself."""

    def on_heard(self, size: int) -> None:
        """Note that ``size`` bytes arrived."""
        ...

    def flush(self) -> None:
        """Fetch ``arrived``."""
        ...

    def yield_turn(self, size: int) -> None:
        """Let others have their turns after a read of ``size`` bytes."""
        ...

    def on_writable(self) -> None:
        """Learn that the network has taken what was sent."""
        ...

    def lose(self, error: LinkError) -> None:
        """Learn that the connection is gone, or worth nothing any more."""
        ...


def explain(error: BaseException) -> str:
    """Return why there is no connection, without the secrets that an error may hold."""
    if isinstance(error, exceptions.InvalidProxy):
        # Its own words repeat the proxy's address, and that may hold a password.
        return f"the proxy cannot be used: {error.msg}"
    # A SOCKS proxy's own words are only in the cause.
    because = error.__cause__ if isinstance(error, exceptions.ProxyError) else None
    reason = str(error) or type(error).__name__
    return f"{reason}: {because}" if because is not None else reason


class Connect(connect):
    """The library's way to a connection, without its redirects."""

    @override
    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class Connection(ClientConnection):
    """The library's connection, with its events handed to a link.

    Attributes:
        link: Whom to tell; ``None`` until it is ready, and once it is done.
        arrived: Messages that the link has not fetched.
        heard: When something last arrived, on the loop's clock.
    """

    link: Receiver | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arrived: list[bytes] = []
        self.heard = self.loop.time()
        self._fragments: list[bytes] = []
        self._head = Head()
        self._frames: FrameReader | None = None
        self._lost_to: Exception | None = None

    @override
    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        if self._frames is None:
            data = self._take_head(data)
        self._take_frames(data)
        link = self.link
        if link is not None:
            link.on_heard(len(data))
            link.flush()
            if not self._is_open():
                # A close frame came, or nonsense, which the library answers with one.
                # It would then wait for the peer to hang up, who need not do so.
                link.lose(self.close_error())
            else:
                # libuv would read on up to 32 times.
                link.yield_turn(len(data))

    def _take_head(self, data: bytes) -> bytes:
        """Leave the answer to the upgrade to the library; return what follows it."""
        if self.protocol.state is State.CONNECTING:
            head, data = self._head.split(data)
            super().data_received(head)
        if self._is_open():
            self._frames = FrameReader(MAX_MESSAGE)
        return data

    def _take_frames(self, data: bytes) -> None:
        reader = self._frames
        if reader is None or not self._is_open():
            super().data_received(data)  # the body of a refusal, or after the end
            return
        reader.feed(data)
        while self._is_open():
            other = reader.read(self.arrived)
            if other is None:
                break
            super().data_received(other)

    def _is_open(self) -> bool:
        return self.protocol.state is State.OPEN

    @override
    def process_event(self, event: Any) -> None:
        if self.response is None or not isinstance(event, frames.Frame):
            super().process_event(event)
        elif event.opcode in frames.DATA_OPCODES:
            self._collect(event)

    def _collect(self, frame: frames.Frame) -> None:
        if frame.fin and not self._fragments:
            self.arrived.append(bytes(frame.data))
            return
        self._fragments.append(bytes(frame.data))
        if frame.fin:
            self.arrived.append(b"".join(self._fragments))
            self._fragments.clear()

    def close_error(self) -> LinkLost:
        """Say how the connection ended."""
        received = self.protocol.close_rcvd
        if received is not None:
            return LinkLost(received.reason or "closed by the service", received.code)
        sent = self.protocol.close_sent
        if sent is not None:
            return LinkLost(f"the service broke the protocol: {sent.reason}")
        if self._lost_to is not None:
            return LinkLost(explain(self._lost_to))
        return LinkLost("the connection was cut")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        # The library keeps it too, by a name that changed from one release to another.
        self._lost_to = exc
        try:
            super().connection_lost(exc)
        finally:
            if self.link is not None:
                self.link.lose(self.close_error())

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self.link is not None:
            self.link.on_writable()
