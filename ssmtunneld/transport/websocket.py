"""A link over a websocket (protocol 2; design D1, D4).

All messages of one read from the network are handed over in one call, and everything
that they cause is written in one go.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Any, Final

from websockets import exceptions
from websockets.protocol import State

from ssmtunneld.base.foreign import clean
from ssmtunneld.base.on_error import on_error
from ssmtunneld.base.random_bytes import RandomBytes
from ssmtunneld.base.record import Record
from ssmtunneld.errors import (
    LinkError,
    LinkLost,
    LinkRefused,
    LinkUnreachable,
    LinkUntrusted,
    PeerUnresponsive,
)
from ssmtunneld.transport.connection import (
    MAX_MESSAGE,
    Connect,
    Connection,
    explain,
)
from ssmtunneld.transport.frames import encode_frame
from ssmtunneld.transport.read_scheduler import ReadFairness, ReadScheduler
from ssmtunneld.transport.unsent import WRITE_BUFFER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping, Sequence

    from ssmtunneld.transport.link import Receiver

PING_PAYLOAD: Final = b"keepalive"
"""The payload of the official peers' pings (protocol 2.4)."""

# The library logs every frame at DEBUG, and the first one holds the token.
_QUIET = logging.getLogger("ssmtunneld.websocket")
_QUIET.setLevel(logging.WARNING)


class Liveness(Record):
    """Times until a dead peer is noticed (design D4), in seconds."""

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
    fairness: ReadFairness | None = None,
) -> WebSocketLink:
    """Open a websocket to ``url``, which is used byte for byte.

    Cancelling is safe: a half-open connection is dropped.

    Args:
        url: The URL of the data channel.
        headers: To be sent with the upgrade.
        liveness: Timeouts.
        ssl_context: The TLS settings.
        proxy: The URL of an HTTP or SOCKS proxy, with its password.
        fairness: Shared with the links that should have their turns.

    Raises:
        LinkRefused: The service answered the upgrade with an HTTP error. Redirects are
            errors too: the token must not follow one.
        LinkUntrusted: The certificate is not trusted.
        LinkUnreachable: There is no connection; says why.
    """
    host = clean(url.partition("://")[2].partition("/")[0])
    options: dict[str, Any] = {} if ssl_context is None else {"ssl": ssl_context}
    if ssl_context is not None and proxy is not None and proxy.startswith("https:"):
        options["proxy_ssl"] = ssl_context
    try:
        connection = await Connect(
            url,
            create_connection=Connection,
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
        raise LinkUnreachable(host, clean(reason)) from None
    except ssl.SSLCertVerificationError as error:
        raise LinkUntrusted(host, clean(error.verify_message)) from None
    except (OSError, exceptions.WebSocketException) as error:
        raise LinkUnreachable(host, explain(error)) from None
    assert isinstance(connection, Connection)
    return WebSocketLink(connection, liveness, fairness or ReadFairness())


class WebSocketLink:
    """One open websocket to the service; implements :class:`Link`."""

    def __init__(
        self, connection: Connection, liveness: Liveness, fairness: ReadFairness
    ) -> None:
        self._connection = connection
        self._liveness = liveness
        self._random_bytes = RandomBytes()
        self._receiver: Receiver | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_ping = 0.0
        self._taken_at = 0.0
        self._check_ends: float | None = None
        # The kernel chooses its own receive buffer. Where SO_RCVBUF bounds it, data
        # that comes while nobody reads is dropped in the end instead of held back, and
        # the peer repeats it later and later: a client that paused for a minute waits
        # for up to another one.
        self._scheduler = ReadScheduler(
            connection.transport, connection.reads, fairness
        )

    @property
    def congested(self) -> bool:
        """True if the network has not taken what was sent."""
        return self._connection.paused

    def start(self, receiver: Receiver) -> None:
        """Begin to deliver messages and to watch the peer."""
        connection = self._connection
        self._receiver = receiver
        connection.link = self
        connection.heard = connection.loop.time()
        self._next_ping = connection.heard + self._liveness.ping_interval
        self._taken_at = connection.heard
        self._watch()
        self._scheduler.start()
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
        take = self._random_bytes.take
        self._write(encode_frame(message, take(4)) for message in messages)

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
        self._scheduler.end_delay()
        self._scheduler.note_written(len(data), connection.loop.time())
        connection.transport.write(data)

    def pause(self) -> None:
        """Stop reading from the network; the dead-peer timer rests meanwhile."""
        self._scheduler.set_wanted(wanted=False)

    def resume(self) -> None:
        """Read again."""
        if not self._scheduler.wanted:
            self._connection.heard = self._connection.loop.time()
            self._scheduler.set_wanted(wanted=True)

    def delay_reading(self, seconds: float) -> None:
        """Read again after ``seconds``, or when something is sent."""
        self._scheduler.delay(seconds)

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
        self._taken_at = self._connection.loop.time()
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
        # A link without a timer must not live on.
        with on_error(self.lose, LinkLost(clean("it could not be watched"))):
            self._look()

    def _look(self) -> None:
        connection = self._connection
        now = connection.loop.time()
        if not self._scheduler.wanted:
            # We do not read, so silence means nothing; resume() starts the timer again.
            connection.heard = now
            self._check_ends = None
        dead_at = connection.heard + self._liveness.dead_peer_timeout
        if self._check_ends is not None:
            dead_at = min(dead_at, self._check_ends)
        if now >= dead_at:
            self.lose(PeerUnresponsive(now - connection.heard))
            return
        if not connection.paused:
            self._taken_at = now
        elif now >= self._taken_at + self._liveness.dead_peer_timeout:
            # The peer sends, but answers to it, or our pings, would pile up forever.
            self.lose(LinkLost(clean("it took nothing from us")))
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
            and self._scheduler.wanted
        ):
            self._check_ends = self._connection.loop.time() + timeout
            self._ping()
            self._stop_watching()
            self._watch()

    def on_heard(self, size: int) -> None:
        """Note a sign of life, of ``size`` bytes."""
        self._check_ends = None
        self._scheduler.note_read(size, self._connection.heard)

    def yield_turn(self, size: int) -> None:
        """After a read of ``size`` bytes, give other work its turn."""
        self._scheduler.yield_turn(size, self._connection.heard)

    def _ping(self) -> None:
        if self._usable:
            self._connection.protocol.send_ping(PING_PAYLOAD)
            self._write()

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
