"""Many streams over one session: the channel's port in mux mode."""

from collections.abc import Callable
from typing import Final

from ssmtunneld.errors import SessionError
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.smux.mux import Mux, MuxStatistics
from ssmtunneld.smux.stream import Stream
from ssmtunneld.transport.ports import Buffers, Pending, PortDriver, PortSession
from ssmtunneld.transport.streams import SEND_BUFFER, StreamDuplex

MOST_UNCOUNTED: Final = 64
"""Uncounted streams after which those that are over are forgotten."""


class MuxPort:
    """The streams of one smux session; the channel's port in mux mode.

    Args:
        driver: Woken when there is something to send.
        buffers: Limits of unread bytes.
        session: The session, for whoever asks a stream for it.
        rescue: Called, when the session is over, with each stream of which nothing was
            sent: the agent has not heard of it, so another port can adopt it. If none
            does, the stream is broken.

    Attributes:
        session: The same one.
    """

    def __init__(
        self,
        driver: PortDriver,
        buffers: Buffers,
        session: PortSession | None = None,
        *,
        rescue: Callable[[StreamDuplex], object] = lambda _: None,
    ) -> None:
        self.session = session
        self._rescue = rescue
        self._driver = driver
        self._buffers = buffers
        self._mux = Mux()
        self._duplexes: dict[int, StreamDuplex] = {}
        self._senders: set[StreamDuplex] = set()
        self._full: set[Stream] = set()
        self._unproven: set[Stream] = set()
        self._uncounted: set[Stream] = set()
        self._error: SessionError | None = None
        self.moved_bytes = 0
        """Bytes of payload both ways, since the beginning."""
        self.refusals = 0
        """Destinations refused since one last answered."""

    @property
    def streams(self) -> int:
        """Streams that are not over, without uncounted ones."""
        streams = self._mux.streams
        if self._uncounted:
            streams -= sum(not s.over for s in self._uncounted)
        return streams

    @property
    def attended(self) -> int:
        """Streams open on our side; the rest only wait for their FIN to leave."""
        return sum(not s.aborted for s in self._mux.open_streams) - sum(
            not s.over and not s.aborted for s in self._uncounted
        )

    @property
    def failed(self) -> bool:
        """True once the session is over: streams are broken, also later ones."""
        return self._error is not None

    @property
    def unsent(self) -> list[StreamDuplex]:
        """Streams of which nothing was sent, in the order in which they were opened.

        None once they are broken: whoever uses them has been told so.
        """
        if self._error is not None:
            return []
        return [
            duplex
            for duplex in self._duplexes.values()
            if not duplex.announced and duplex.stream not in self._uncounted
        ]

    def withdraw(self, duplex: StreamDuplex) -> Pending:
        """Remove a stream of which nothing was sent; return what waits in it.

        The agent never learns of the stream. Another port must adopt the duplex.
        """
        stream = duplex.stream
        assert not stream.syn_sent, "the agent knows of it"
        pending = Pending(stream.take_all(), finishing=stream.finishing)
        self._mux.withdraw(stream)
        self._retire(stream)
        self._senders.discard(duplex)
        return pending

    def adopt(self, duplex: StreamDuplex, pending: Pending) -> None:
        """Take over a stream that another port has withdrawn.

        Raises:
            LocalProtocolError: No stream can be opened; see ``available``.
        """
        stream = self._mux.open()
        self._duplexes[stream.stream_id] = duplex
        self._unproven.add(stream)
        duplex.move(self, stream)
        self._mux.send(stream, pending.data)
        if stream.pending > SEND_BUFFER:
            self._senders.add(duplex)
        if pending.finishing:
            self._mux.finish(stream)
        if self._error is not None:
            duplex.fail(self._error)
        self._driver.wake()

    @property
    def available(self) -> bool:
        """True if another stream can be opened."""
        return not self._mux.exhausted

    @property
    def unanswered(self) -> int | None:
        """The oldest stream that sent data and got no answer of its destination."""
        waiting = (s.stream_id for s in self._unproven - self._uncounted if s.sent)
        return min(waiting, default=None)

    def open_stream(self, *, counted: bool = True) -> StreamDuplex:
        """Return a new stream; the agent connects it when its SYN arrives.

        Args:
            counted: The stream counts as use of the session; a probe's does not.

        Raises:
            LocalProtocolError: All stream ids are used up; see ``available``.
        """
        stream = self._mux.open()
        if not counted:
            self._uncounted = {s for s in self._uncounted if not s.over} | {stream}
        duplex = StreamDuplex(self, stream)
        self._duplexes[stream.stream_id] = duplex
        self._unproven.add(stream)
        if self._error is not None:
            # The session ended after the caller had chosen it.
            duplex.fail(self._error)
        self._driver.wake_late()
        return duplex

    def nop(self) -> None:
        """Send a NOP: the service counts it as activity (protocol 7.5)."""
        self._mux.nop()
        self._driver.wake()

    @property
    def settled(self) -> bool:
        """True if nothing is known to be in flight or missing."""
        return self._driver.settled

    def statistics(self) -> MuxStatistics:
        """Return a snapshot."""
        return self._mux.statistics()

    # Called by the streams.

    def read(self, stream: Stream) -> bytes:
        """Take what arrived on ``stream``."""
        data = self._mux.read(stream)
        self._full.discard(stream)
        self._driver.reading_changed()
        return data

    def send(self, duplex: StreamDuplex, stream: Stream, data: bytes) -> None:
        """Queue ``data``."""
        self._mux.send(stream, data)
        if stream.pending > SEND_BUFFER:
            self._senders.add(duplex)
        self._driver.wake()

    def finish(self, stream: Stream) -> None:
        """Send FIN behind what is pending."""
        self._mux.finish(stream)
        self._driver.wake()

    def close(self, stream: Stream) -> None:
        """Send FIN behind what is pending, and read no more."""
        self._mux.close(stream)
        self._retire(stream)

    def abort(self, stream: Stream) -> None:
        """Send FIN at once, and read no more."""
        self._mux.abort(stream)
        if not stream.over:
            # It needs the session no longer, even if its FIN cannot leave.
            if len(self._uncounted) >= MOST_UNCOUNTED:
                self._uncounted = {s for s in self._uncounted if not s.over}
            self._uncounted.add(stream)
        self._retire(stream)

    def _retire(self, stream: Stream) -> None:
        self._duplexes.pop(stream.stream_id, None)
        self._full.discard(stream)
        self._unproven.discard(stream)
        self._driver.wake()
        self._driver.reading_changed()

    # Called by the driver.

    @property
    def congested(self) -> bool:
        """True if a stream, or all together, have more unread than the limit."""
        return bool(self._full) or self._mux.unread > self._buffers.session

    def next_payload(self, limit: int = MAX_PAYLOAD) -> bytes:
        """Return frames for one message of at most ``limit`` bytes."""
        payload = self._mux.next_payload(limit)
        self.moved_bytes += len(payload)
        return payload

    def after_sending(self) -> None:
        """Wake the senders that have room again."""
        if self._senders:
            self._senders = {d for d in self._senders if not d.offer_room()}

    def receive(self, payload: bytes) -> None:
        """Take the next bytes from the agent."""
        self.moved_bytes += len(payload)
        for stream in self._mux.receive(payload):
            if stream.unread > self._buffers.stream:
                self._full.add(stream)
            if stream in self._unproven:
                self._unproven.discard(stream)
                self.refusals = 0 if stream.received else self.refusals
            duplex = self._duplexes.get(stream.stream_id)
            if duplex is not None:
                duplex.wake_reader()
                if stream.ended:
                    duplex.offer_room()

    def dial_failed(self) -> None:
        """Note that the agent could not connect a stream."""
        self.refusals += 1
        self._mux.dial_failed()

    def fail(self, error: SessionError) -> None:
        """Break all streams that nobody rescues, and those that are opened later.

        The first error counts.
        """
        if self._error is None:
            unsent, self._error = self.unsent, error
            for duplex in unsent:
                self._rescue(duplex)
        # Also if told again: a rescue can have failed in the middle.
        for duplex in list(self._duplexes.values()):
            duplex.fail(self._error)
