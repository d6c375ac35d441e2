"""A connection of the websockets library that delivers by callback (design D4).

The library brings the upgrade, TLS, proxies, control frames and the close. Its receive
queue is bypassed by the hook that it documents for this (``create_connection``), and
its parser for all frames that are plain (``frames.py``).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final, Protocol

from typing_extensions import override
from websockets import exceptions, frames
from websockets.protocol import State

from ssmtunneld.base.bounded_reads import BoundedReads
from ssmtunneld.base.foreign import CleanText, clean
from ssmtunneld.base.lean_imports import hidden
from ssmtunneld.base.on_error import on_error
from ssmtunneld.errors import LinkError, LinkLost
from ssmtunneld.transport import http_proxy, socks_proxy
from ssmtunneld.transport.addresses import connect_tcp
from ssmtunneld.transport.frames import FrameReader, Head
from ssmtunneld.transport.unsent import keep_unsent_little

with hidden("python_socks"):  # socks_proxy.py imports it where it is needed
    from websockets.asyncio.client import ClientConnection, connect

MAX_MESSAGE: Final = 128 << 10
"""Bytes. The service sends 1144 (protocol 2.1); the longest document that is understood
has 64 KiB, and frames of eight bytes that fill a message take 10 ms."""
MAX_FRAGMENTS: Final = 16
"""Frames of one message. Real peers send each message in one (protocol 2.4)."""
RARE_BURST: Final = 256
"""Frames other than whole messages, control frames above all, that can come at once:
the library takes some 25 us for each."""
RARE_RATE: Final = 20.0
"""Of these per second, in the long run. A peer pings once a minute (protocol 2.4) and
answers our own pings."""
LARGE_FRAME: Final = 64 << 10
"""Bytes from which on a frame costs no more than its size."""

_SWITCHING_PROTOCOLS: Final = 101


class Receiver(Protocol):
    """The callbacks of a connection."""

    def on_heard(self, size: int) -> None:
        """Note that ``size`` bytes arrived."""
        ...

    def flush(self) -> None:
        """Fetch ``arrived``."""
        ...

    def yield_turn(self, size: int) -> None:
        """Called after a read of ``size`` bytes: give way to other links."""
        ...

    def on_writable(self) -> None:
        """Called when the network has taken what was sent."""
        ...

    def lose(self, error: LinkError) -> None:
        """Called when the connection is lost or unusable."""
        ...


def explain(error: BaseException) -> CleanText:
    """Return why the connection failed, without the secrets that an error can hold."""
    if isinstance(error, exceptions.InvalidProxy):
        # Its text repeats the proxy's address, which can hold a password.
        return clean(f"the proxy cannot be used: {error.msg}")
    # A SOCKS proxy's own words are only in the cause.
    because = error.__cause__ if isinstance(error, exceptions.ProxyError) else None
    reason = str(error) or type(error).__name__
    return clean(f"{reason}: {because}" if because is not None else reason)


class Connect(connect):
    """The library's way to a connection, without its redirects and proxies."""

    @override
    def process_redirect(self, exc: Exception) -> Exception:
        return exc

    @override
    async def open_tcp_connection(self) -> ClientConnection:
        proxy = self.proxy
        assert proxy is not True, "the caller looks it up"
        host, port = self.ws_uri.host, self.ws_uri.port
        options = self.create_connection_kwargs
        if proxy is None:
            # Encrypted below: the socket's own transport must be at hand.
            transport, _ = await connect_tcp(asyncio.Protocol, host, port)
        elif proxy.startswith("socks"):
            transport = await socks_proxy.connect_through(proxy, host, port)
        else:
            transport = await http_proxy.connect_through(
                proxy, host, port, options.get("proxy_ssl")
            )
        keep_unsent_little(transport)
        connection = self.factory(self.ws_uri)
        assert isinstance(connection, Connection)
        transport.set_protocol(connection)
        with on_error(transport.abort):
            if self.ws_uri.secure:
                context = options.get("ssl") or ssl.create_default_context()
                transport = await _start_tls(transport, connection, context, host)
        connection.connection_made(transport)
        transport.set_protocol(connection.reads)
        return connection


async def _start_tls(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    host: str,
) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    encrypted = await loop.start_tls(transport, protocol, context, server_hostname=host)
    assert encrypted is not None, "the transport was closed here"
    return encrypted


class _Budget:
    """Counts what comes seldom, and says when it comes too often."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._at = now
        self._left = float(RARE_BURST)

    def take(self, now: float) -> bool:
        """Count a frame at ``now``, in seconds; return True if it is allowed."""
        self._left = min(RARE_BURST, self._left + (now - self._at) * RARE_RATE) - 1
        self._at = now
        return self._left >= 0


class Connection(ClientConnection):
    """The library's connection, with its events handed to a link.

    Attributes:
        link: The receiver; ``None`` until it is ready, and after its end.
        arrived: Messages that the link has not fetched.
        heard: The time of the last arrival, on the loop's clock.
        reads: The buffer that the transport reads into. After the upgrade it reads
            nothing until somebody lets it: the peer may send a lot at once.
    """

    link: Receiver | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arrived: list[bytes] = []
        self.heard = self.loop.time()
        self.reads = BoundedReads(self)
        self._fragments: list[bytes] = []
        self._head = Head()
        self._frames: FrameReader | None = None
        self._rare = _Budget(self.heard)
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
                # It would then wait for the peer to hang up, which need not happen.
                link.lose(self.close_error())
            else:
                # libuv would read on up to 32 times.
                link.yield_turn(len(data))

    def _take_head(self, data: bytes) -> bytes:
        """Leave the answer to the upgrade to the library; return what follows it."""
        head = self._head
        if head.over or not head.feed(data):
            return b""
        if head.whole:
            super().data_received(_simplified(head.whole, head.status))
        if self._is_open():
            self._frames = FrameReader(MAX_MESSAGE)
            self.transport.pause_reading()
        else:
            # The library would wait for the peer to hang up.
            self.transport.abort()
        return head.rest

    def _take_frames(self, data: bytes) -> None:
        reader = self._frames
        if reader is None or not self._is_open():
            return  # the head is not whole, it is a refusal, or this is after the end
        reader.feed(data)
        while self._is_open():
            other = reader.read(self.arrived)
            if other is None:
                break
            if len(other) < LARGE_FRAME and not self._rare.take(self.heard):
                self._fail("too many frames without a whole message")
                break
            super().data_received(other)

    def _fail(self, reason: str) -> None:
        self.protocol.fail(frames.CloseCode.POLICY_VIOLATION, reason)
        self.send_data()

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
        if len(self._fragments) == MAX_FRAGMENTS:
            self._fail(f"a message in more than {MAX_FRAGMENTS} frames")
            return
        if not (frame.fin or frame.data) and self._fragments:
            self._fail("a continuation frame without data")
            return
        self._fragments.append(bytes(frame.data))
        if frame.fin:
            self.arrived.append(b"".join(self._fragments))
            self._fragments.clear()

    def close_error(self) -> LinkLost:
        """Return the error with which the connection ended."""
        received = self.protocol.close_rcvd
        if received is not None:
            words = received.reason or "closed by the service"
            return LinkLost(clean(words), received.code)
        sent = self.protocol.close_sent
        if sent is not None:
            return LinkLost(clean(f"the service broke the protocol: {sent.reason}"))
        if self._lost_to is not None:
            return LinkLost(explain(self._lost_to))
        return LinkLost(clean("the connection was cut"))

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


def _simplified(head: bytes, status: int | None) -> bytes:
    """Return an answer's head as the library understands it at once.

    It insists on a reason phrase, and it would read the body of a refusal, of which
    nobody wants more than the status.
    """
    if status is None:
        return head
    if status != _SWITCHING_PROTOCOLS:
        return f"HTTP/1.1 {status} -\r\nContent-Length: 0\r\n\r\n".encode()
    _, _, fields = head.partition(b"\r\n")
    return b"HTTP/1.1 101 -\r\n" + fields
