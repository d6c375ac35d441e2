"""A link over a websocket (protocol 2; design D1, D4).

Built on the connection class of the websockets library, which brings the upgrade, TLS
and proxies. Its own receive queue is bypassed by the hook that the library documents
for this (``create_connection``): all messages of one read from the network are handed
over in one call, and everything that they cause is written in one go.
"""

from __future__ import annotations

import logging
import ssl
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override
from websockets import exceptions, frames
from websockets.asyncio.client import ClientConnection, connect
from websockets.protocol import State

from ssmtunneld.entropy import Entropy
from ssmtunneld.errors import (
    LinkError,
    LinkLost,
    LinkRefused,
    LinkUnreachable,
    LinkUntrusted,
    PeerUnresponsive,
)
from ssmtunneld.reading import SmallReads
from ssmtunneld.transport.courtesy import Courtesy
from ssmtunneld.transport.intake import Intake

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping, Sequence

    from ssmtunneld.transport.link import Receiver

MAX_MESSAGE: Final = 4 << 20
"""Bytes. The service sends 1144; peers have no limit at all (protocol 2.1, trap 25)."""
WRITE_BUFFER: Final = 64 << 10
"""Bytes queued locally before the link is congested. Little, because a keystroke that
is ready later waits behind them."""
PING_PAYLOAD: Final = b"keepalive"
"""What the official peers send (protocol 2.4)."""

# The fastest of the library's two: one in C, where it could be compiled.
_apply_mask: Final = frames.apply_mask  # type: ignore[attr-defined] # not in __all__
_SMALL: Final = struct.Struct(">BB")
_MEDIUM: Final = struct.Struct(">BBH")
_LARGE: Final = struct.Struct(">BBQ")

# The library logs every frame at DEBUG, and the first one holds the token.
_QUIET = logging.getLogger("ssmtunneld.websocket")
_QUIET.setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Liveness:
    """How soon a dead peer is noticed (design D4), in seconds."""

    ping_interval: float = 20.0
    dead_peer_timeout: float = 40.0
    open_timeout: float = 15.0
    """For TCP, TLS, proxy and upgrade together."""


async def dial(
    url: str,
    headers: Mapping[str, str],
    *,
    liveness: Liveness,
    ssl_context: ssl.SSLContext | None = None,
    proxy: str | None = None,
    courtesy: Courtesy | None = None,
) -> WebSocketLink:
    """Open a websocket to ``url``, which is used byte for byte.

    Cancelling is safe: a half-open connection is dropped.

    Args:
        url: Where the data channel is.
        headers: To be sent with the upgrade.
        liveness: Timeouts.
        ssl_context: What to trust.
        proxy: The URL of an HTTP or SOCKS proxy, with its password.
        courtesy: Shared with the links that should have their turns.

    Raises:
        LinkRefused: The service answered the upgrade with an HTTP error. Redirects are
            errors too: the token must not follow one.
        LinkUntrusted: The certificate is not trusted.
        LinkUnreachable: There is no connection; says why.
    """
    host = url.partition("://")[2].partition("/")[0]
    options: dict[str, Any] = {} if ssl_context is None else {"ssl": ssl_context}
    if ssl_context is not None and proxy is not None and proxy.startswith("https:"):
        options["proxy_ssl"] = ssl_context
    try:
        connection = await _Connect(
            url,
            create_connection=_Connection,
            additional_headers=dict(headers),
            user_agent_header=None,
            compression=None,
            open_timeout=liveness.open_timeout,
            ping_interval=None,
            close_timeout=1,
            max_size=MAX_MESSAGE,
            max_queue=None,
            write_limit=WRITE_BUFFER,
            logger=_QUIET,
            proxy=proxy,
            **options,
        )
    except exceptions.InvalidStatus as error:
        raise LinkRefused(error.response.status_code, host) from None
    except TimeoutError:
        reason = f"no connection within {liveness.open_timeout:.0f} s"
        raise LinkUnreachable(host, reason) from None
    except ssl.SSLCertVerificationError as error:
        raise LinkUntrusted(host, error.verify_message) from None
    except (OSError, exceptions.WebSocketException) as error:
        raise LinkUnreachable(host, _explain(error)) from None
    assert isinstance(connection, _Connection)
    return WebSocketLink(connection, liveness, courtesy or Courtesy())


def _explain(error: BaseException) -> str:
    if isinstance(error, exceptions.InvalidProxy):
        # Its own words repeat the proxy's address, and that may hold a password.
        return f"the proxy cannot be used: {error.msg}"
    # A SOCKS proxy's own words are only in the cause.
    because = error.__cause__ if isinstance(error, exceptions.ProxyError) else None
    reason = str(error) or type(error).__name__
    return f"{reason}: {because}" if because is not None else reason


class _Connect(connect):
    @override
    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class _Connection(ClientConnection):
    """The library's connection, with its events handed to a link."""

    link: WebSocketLink | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arrived: list[bytes] = []
        self.heard = self.loop.time()
        self._fragments: list[bytes] = []

    @override
    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        super().data_received(data)
        link = self.link
        if link is not None:
            link.on_heard(len(data))
            link.flush()
            if self.protocol.state is not State.OPEN:
                # A close frame came, or nonsense, which the library answers with one.
                # It would then wait for the peer to hang up, who need not do so.
                link.lose(self.close_error())
            else:
                # libuv would read on up to 32 times.
                link.yield_turn(len(data))

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
        if self.connection_exc is not None:
            return LinkLost(_explain(self.connection_exc))
        return LinkLost("the connection was cut")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.link is not None:
            self.link.lose(self.close_error())

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self.link is not None:
            self.link.on_writable()


def _frame(data: bytes, mask: bytes) -> bytes:
    """Return a masked, unfragmented binary frame (RFC 6455 section 5.2)."""
    size = len(data)
    if size < 126:
        head = _SMALL.pack(0x82, 0x80 | size)
    elif size < 65536:
        head = _MEDIUM.pack(0x82, 0xFE, size)
    else:
        head = _LARGE.pack(0x82, 0xFF, size)
    return b"".join((head, mask, _apply_mask(data, mask)))


class WebSocketLink:
    """One open websocket to the service; implements :class:`Link`."""

    def __init__(
        self, connection: _Connection, liveness: Liveness, courtesy: Courtesy
    ) -> None:
        self._connection = connection
        self._liveness = liveness
        self._entropy = Entropy()
        self._receiver: Receiver | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_ping = 0.0
        self._check_ends: float | None = None
        # The kernel chooses its own receive buffer. Where SO_RCVBUF bounds it, data
        # that comes while nobody reads is dropped in the end instead of held back, and
        # the peer repeats it later and later: a client that paused for a minute waits
        # for up to another one.
        self._reads = SmallReads(connection)
        self._intake = Intake(connection.transport, self._reads, courtesy)

    @property
    def congested(self) -> bool:
        """Whether the network has not taken what was sent."""
        return self._connection.paused

    def start(self, receiver: Receiver) -> None:
        """Begin to deliver messages and to watch the peer."""
        connection = self._connection
        self._receiver = receiver
        connection.link = self
        connection.transport.set_protocol(self._reads)
        connection.heard = connection.loop.time()
        self._next_ping = connection.heard + self._liveness.ping_interval
        self._watch()
        self.flush()
        if connection.protocol.state is not State.OPEN:
            self.lose(connection.close_error())

    def send_text(self, text: str) -> None:
        """Queue one textual message."""
        if self._usable:
            self._connection.protocol.send_text(text.encode())
            self._write()

    def send(self, messages: Sequence[bytes]) -> None:
        """Queue binary messages; together they are one write to the network."""
        if not self._usable:
            return
        # Framed here: that is half the cost of the library's way, a tenth of an upload.
        take = self._entropy.take
        self._write(_frame(message, take(4)) for message in messages)

    @property
    def _usable(self) -> bool:
        connection = self._connection
        return (
            connection.protocol.state is State.OPEN
            and not connection.transport.is_closing()
        )

    def _write(self, framed: Iterable[bytes] = ()) -> None:
        # The library would write each frame by itself.
        connection = self._connection
        waiting = connection.protocol.data_to_send()
        data = b"".join([*waiting, *framed])
        self._intake.note_written(len(data), connection.loop.time())
        connection.transport.write(data)

    def pause(self) -> None:
        """Stop reading from the network; the dead-peer timer rests meanwhile."""
        self._intake.set_wanted(wanted=False)

    def resume(self) -> None:
        """Read again."""
        if not self._intake.wanted:
            self._connection.heard = self._connection.loop.time()
            self._intake.set_wanted(wanted=True)

    def abort(self) -> None:
        """Drop the connection at once."""
        self._receiver = None
        self._stop_watching()
        self._connection.link = None
        self._connection.transport.abort()

    # Called by the connection.

    def flush(self) -> None:
        """Deliver what arrived."""
        messages = self._connection.arrived
        if messages and self._receiver is not None:
            self._connection.arrived = []
            self._receiver.on_messages(messages)

    def on_writable(self) -> None:
        """Pass on that the network took what was sent."""
        if self._receiver is not None:
            self._receiver.on_writable()

    def lose(self, error: LinkError) -> None:
        """Report the end, once."""
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            receiver.on_lost(error)

    # Liveness.

    def _watch(self) -> None:
        connection = self._connection
        now = connection.loop.time()
        if not self._intake.wanted:
            # We do not listen, so silence says nothing; resume() starts it anew.
            connection.heard = now
            self._check_ends = None
        dead_at = connection.heard + self._liveness.dead_peer_timeout
        if self._check_ends is not None:
            dead_at = min(dead_at, self._check_ends)
        if now >= dead_at:
            self.lose(PeerUnresponsive(now - connection.heard))
            return
        if now >= self._next_ping:
            self._next_ping = now + self._liveness.ping_interval
            self._ping()
        self._timer = connection.loop.call_at(
            min(dead_at, self._next_ping), self._watch
        )

    def check(self, timeout: float) -> None:
        """Ping now; any frame within ``timeout`` seconds says that the peer lives."""
        if (
            self._receiver is not None
            and self._check_ends is None
            and self._intake.wanted
        ):
            self._check_ends = self._connection.loop.time() + timeout
            self._ping()
            self._stop_watching()
            self._watch()

    def on_heard(self, size: int) -> None:
        """Note a sign of life, of ``size`` bytes."""
        self._check_ends = None
        self._intake.note_read(size, self._connection.heard)

    def yield_turn(self, size: int) -> None:
        """After a read of ``size`` bytes, let others have their turns."""
        self._intake.yield_turn(size, self._connection.heard)

    def _ping(self) -> None:
        if self._usable:
            self._connection.protocol.send_ping(PING_PAYLOAD)
            self._write()

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
