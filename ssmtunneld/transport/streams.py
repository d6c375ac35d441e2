"""A byte stream inside a session, as a Duplex."""

import asyncio
from typing import Final, Protocol

from ssmtunneld.errors import DestinationRefused, StreamReset, TunnelError
from ssmtunneld.smux.stream import Stream
from ssmtunneld.transport.ports import PortSession

SEND_BUFFER: Final = 64 << 10
"""Limit of unsent bytes of one stream: enough for one local read. Further data stays in
the local socket, where TCP slows the client down."""


class Carrier(Protocol):
    """The part of a port that a stream uses."""

    session: PortSession | None
    """The port's session."""

    def read(self, stream: Stream) -> bytes:
        """Take what arrived."""
        ...

    def send(self, duplex: "StreamDuplex", stream: Stream, data: bytes) -> None:
        """Queue ``data``; call ``offer_room`` when it has gone."""
        ...

    def finish(self, stream: Stream) -> None:
        """End our direction behind what is queued."""
        ...

    def close(self, stream: Stream) -> None:
        """End our direction behind what is queued, and read no more."""
        ...

    def abort(self, stream: Stream) -> None:
        """End both directions at once."""
        ...

    @property
    def settled(self) -> bool:
        """True if nothing is known to be in flight or missing."""
        ...


class StreamDuplex:
    """One stream, as a :class:`~ssmtunneld.base.duplex.Duplex`.

    Half-close cannot be expressed through the agent (protocol 6.6): ``send_eof`` makes
    the agent close its destination, so that the rest of the answer is lost.
    """

    __slots__ = ("_error", "_port", "_readable", "_stream", "_writable")

    def __init__(self, port: Carrier, stream: Stream) -> None:
        self._port = port
        self._stream = stream
        self._error: TunnelError | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    @property
    def stream(self) -> Stream:
        """The stream that carries it now."""
        return self._stream

    @property
    def announced(self) -> bool:
        """True if its SYN was sent, so that the agent can know of the stream."""
        return self._stream.syn_sent

    @property
    def session(self) -> PortSession | None:
        """The session that carries it now, or did until its end."""
        return self._port.session

    def move(self, port: Carrier, stream: Stream) -> None:
        """Continue on ``stream`` of another port; nothing of the old one was sent."""
        self._port = port
        self._stream = stream

    @property
    def received(self) -> int:
        """Bytes that arrived from the agent, read or not."""
        return self._stream.received

    @property
    def sent(self) -> int:
        """Bytes that went out to the agent."""
        return self._stream.sent

    @property
    def unsettled(self) -> bool:
        """True if an answer, or what we sent, could be stuck: silence is not EOF."""
        return self._stream.pending > 0 or not self._port.settled

    async def receive(self) -> bytes:
        """Return everything that has arrived, at least one byte; ``b""`` at the end.

        What arrived before an error is returned before it. Cancelling is safe.

        Raises:
            DestinationRefused: The agent could not connect to the destination.
            StreamReset: The session is lost.
        """
        # Read again each time: ``move`` can have replaced it during the wait.
        while not (stream := self._stream).unread:
            if stream.refused:
                raise DestinationRefused("the target could not connect to it")
            if stream.ended:
                return b""
            self._check()
            self._readable = asyncio.get_running_loop().create_future()
            try:
                await self._readable
            finally:
                self._readable = None
        return self._port.read(stream)

    def put(self, data: bytes) -> None:
        """Queue ``data``, whether there is room for it or not.

        Once the agent has ended the stream, data is dropped: it would drop it too.

        Raises:
            StreamReset: The session is lost.
        """
        self._check()
        self._port.send(self, self._stream, data)

    async def send(self, data: bytes) -> None:
        """Do as :meth:`put`; return when there is room for more. Cancelling is safe.

        Raises:
            StreamReset: The session is lost.
        """
        self.put(data)
        while self._stream.pending > SEND_BUFFER:
            self._writable = asyncio.get_running_loop().create_future()
            try:
                await self._writable
            finally:
                self._writable = None
            self._check()

    async def send_eof(self) -> None:
        """End the stream after what was sent."""
        self._port.finish(self._stream)

    def abort(self) -> None:
        """End the stream at once, dropping what is not sent; idempotent."""
        self._port.abort(self._stream)
        self.fail(StreamReset("it was aborted here"))

    async def aclose(self) -> None:
        """Send what is pending, then end; read no more. Idempotent, does not wait."""
        self._port.close(self._stream)
        # The port has dropped this stream, so no event would wake a task that waits.
        self.fail(StreamReset("it was closed here"))

    def _check(self) -> None:
        if self._error is not None:
            raise StreamReset(f"the stream was cut: {self._error}")

    # Called by the port.

    def fail(self, error: TunnelError) -> None:
        """Break the stream because of ``error``; what has arrived can still be read."""
        if self._error is None:
            self._error = error
        self.wake_reader()
        self._wake_writer()

    def wake_reader(self) -> None:
        """Wake a waiting ``receive``."""
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def _wake_writer(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def offer_room(self) -> bool:
        """Wake a waiting ``send`` if half of its buffer is free; return True if so."""
        if self._stream.pending > SEND_BUFFER // 2:
            return False
        self._wake_writer()
        return True
