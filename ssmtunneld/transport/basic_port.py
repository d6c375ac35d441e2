"""One stream that is the whole session: the channel's port in basic mode."""

from collections.abc import Callable

from ssmtunneld.errors import ChannelClosed, LocalProtocolError, SessionError
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.smux.mux import MuxStatistics
from ssmtunneld.smux.stream import Stream
from ssmtunneld.transport.ports import Buffers, PortDriver, PortSession
from ssmtunneld.transport.streams import StreamDuplex


class BasicPort:
    """A session that is one connection: the channel's port in basic mode.

    The agent connects at the start of the session, and can report the end of the
    destination only by ending the session (protocol 6.4). One session serves one stream
    only, so that no byte of one local connection reaches the next.

    Args:
        driver: Woken when there is something to send.
        buffers: Limits of unread bytes.
        finished: Called once, when the stream is over and all of it was sent.
        ends_with: The agent ends the session when the destination ends. An agent that
            connects again instead does not report it, so that the end of such a
            session always cuts its stream.
        session: The session, for whoever asks the stream for it.

    Attributes:
        session: The same one.
    """

    def __init__(
        self,
        driver: PortDriver,
        buffers: Buffers,
        finished: Callable[[], None],
        *,
        ends_with: bool,
        session: PortSession | None = None,
    ) -> None:
        self.session = session
        self._driver = driver
        self._buffers = buffers
        self._finished = finished
        self._ends_with = ends_with
        self._error: SessionError | None = None
        self._stream = Stream(0)
        self._duplex: StreamDuplex | None = None
        self._told = False
        self.failed = False
        """True once the session is over, except with its destination: that must be told
        to a client, also to one that gets the stream in the same turn."""
        self.moved_bytes = 0
        """Bytes of payload both ways, since the beginning."""
        self.refusals = 0
        """Always 0: a session that cannot connect ends."""
        self.unanswered: int | None = None
        """Always ``None``: nothing waits behind the only stream."""
        self.unsent: list[StreamDuplex] = []
        """Always empty: the agent connects before there is a stream."""

    @property
    def streams(self) -> int:
        """1 while the stream is in use, or has something left to send."""
        stream = self._stream
        used = self._duplex is not None and not stream.aborted
        return int(used or stream.pending > 0)

    @property
    def attended(self) -> int:
        """1 while the stream is open on our side."""
        return int(self._duplex is not None and not self._stream.aborted)

    @property
    def available(self) -> bool:
        """True until the stream is opened."""
        return self._duplex is None

    def open_stream(self, *, counted: bool = True) -> StreamDuplex:
        """Return the session's only stream.

        Raises:
            LocalProtocolError: It was opened before, or ``counted`` is false.
        """
        if self._duplex is not None or not counted:
            raise LocalProtocolError("a basic session has one stream")
        self._duplex = StreamDuplex(self, self._stream)
        if self._error is not None:
            # The session ended after the caller had chosen it.
            self._duplex.fail(self._error)
        return self._duplex

    def nop(self) -> None:
        """Do nothing: basic mode has no NOP, every byte is data."""

    @property
    def settled(self) -> bool:
        """True if nothing is known to be in flight or missing."""
        return self._driver.settled

    def statistics(self) -> MuxStatistics:
        """Return a snapshot, in the terms of a session with one stream."""
        return MuxStatistics(
            streams=self.streams,
            unread=self._stream.unread,
            pending=self._stream.pending,
            opened=int(self._duplex is not None),
            refused=0,
            dropped=0,
        )

    # Called by the stream.

    def read(self, stream: Stream) -> bytes:
        """Take what arrived."""
        data = stream.read()
        self._driver.reading_changed()
        return data

    def send(self, duplex: StreamDuplex, stream: Stream, data: bytes) -> None:  # noqa: ARG002 - the port's signature; there is only one duplex
        """Queue ``data``."""
        if data and not stream.finishing:
            stream.put(data)
            self._driver.wake()

    def finish(self, stream: Stream) -> None:
        """Accept no more to send. There is no EOF on the wire."""
        stream.finishing = True

    def close(self, stream: Stream) -> None:
        """Send what is pending, then end the session."""
        stream.finishing = True
        if not stream.aborted:
            stream.aborted = True
            stream.read()
            self._driver.reading_changed()
        self._finish_if_over()

    def abort(self, stream: Stream) -> None:
        """End the session at once."""
        stream.discard_pending()
        self.close(stream)

    # Called by the driver.

    @property
    def congested(self) -> bool:
        """True if more is unread than the limit allows."""
        return self._stream.unread > self._buffers.stream

    def next_payload(self, limit: int = MAX_PAYLOAD) -> bytes:  # noqa: ARG002 - an agent without smux is never given more
        """Return the next piece of the stream."""
        if not self._stream.pending:
            return b""
        payload = self._stream.take(MAX_PAYLOAD)
        self.moved_bytes += len(payload)
        return payload

    def after_sending(self) -> None:
        """Wake the sender if there is room, or finish the stream."""
        if self._duplex is not None:
            self._duplex.offer_room()
            self._finish_if_over()

    def _finish_if_over(self) -> None:
        if self._stream.aborted and not self._stream.pending and not self._told:
            self._told = True
            self._finished()

    def receive(self, payload: bytes) -> None:
        """Take the next bytes from the agent."""
        self.moved_bytes += len(payload)
        if not self._stream.aborted:
            self._stream.arrive(payload)
            if self._duplex is not None:
                self._duplex.wake_reader()

    def dial_failed(self) -> None:
        """Do nothing: a basic session that cannot connect ends (protocol 6.4)."""

    def fail(self, error: SessionError) -> None:
        """Break the stream, or end it where the session's end is its end of file."""
        if self._error is not None:
            return
        self._error = error
        orderly = isinstance(error, ChannelClosed) and not error.output
        self.failed = not orderly
        if orderly and self._ends_with and not self._driver.missing:
            self._stream.ended = True
        if self._duplex is not None:
            self._duplex.fail(error)
