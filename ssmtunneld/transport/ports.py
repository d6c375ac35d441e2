"""What a channel carries: many streams over smux, or one that is the whole session."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ssmtunneld.errors import ChannelClosed, LocalProtocolError, SessionError
from ssmtunneld.protocol.message import MAX_PAYLOAD
from ssmtunneld.smux.mux import Mux, MuxStatistics
from ssmtunneld.smux.stream import Stream
from ssmtunneld.transport.streams import SEND_BUFFER, StreamDuplex

MOST_UNCOUNTED: Final = 64
"""Streams that do not count, after which those that are over are forgotten."""


@dataclass(frozen=True, slots=True)
class Buffers:
    """Bytes that may be unread before a session is no longer read (design D7)."""

    stream: int = 1 << 20
    session: int = 8 << 20


@dataclass(frozen=True, slots=True)
class Pending:
    """What waited to be sent on a stream that moves to another session."""

    data: bytes
    finishing: bool
    """Nothing more follows."""


class _Waker(Protocol):
    """What a port needs of its driver."""

    def wake(self) -> None:
        """Send, at the end of this turn of the loop."""
        ...

    def wake_late(self) -> None:
        """Send a few turns later, or with what is woken for before."""
        ...

    def reading_changed(self) -> None:
        """Look at ``congested`` again."""
        ...

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way, or missing, as far as can be known."""
        ...

    @property
    def missing(self) -> int:
        """Messages that were sent before others that have arrived."""
        ...


class MuxPort:
    """The streams of one smux session; the channel's port in mux mode."""

    def __init__(self, driver: _Waker, buffers: Buffers) -> None:
        self._driver = driver
        self._buffers = buffers
        self._mux = Mux()
        self._duplexes: dict[int, StreamDuplex] = {}
        self._senders: set[StreamDuplex] = set()
        self._full: set[Stream] = set()
        self._unproven: set[Stream] = set()
        self._uncounted: set[Stream] = set()
        self._error: SessionError | None = None
        self.traffic = 0
        """Bytes of payload both ways, since the beginning."""
        self.refusals = 0
        """Destinations refused since one last answered."""

    @property
    def streams(self) -> int:
        """Streams that are not yet over, without those that do not count."""
        return self._mux.streams - sum(not s.over for s in self._uncounted)

    @property
    def attended(self) -> int:
        """Streams that somebody here still holds; the others only finish."""
        return sum(not s.aborted for s in self._mux.open_streams) - sum(
            not s.over and not s.aborted for s in self._uncounted
        )

    @property
    def unsent(self) -> list[StreamDuplex]:
        """Streams of which nothing has left, in the order in which they were opened."""
        return [
            duplex
            for duplex in self._duplexes.values()
            if not duplex.announced and duplex.stream not in self._uncounted
        ]

    def withdraw(self, duplex: StreamDuplex) -> Pending:
        """Give up a stream of which nothing has left; return what waited in it.

        The agent never hears of it. The duplex must be adopted by another port.
        """
        stream = duplex.stream
        assert not stream.syn_sent, "the agent knows of it"
        pending = Pending(stream.take_all(), finishing=stream.finishing)
        self._mux.withdraw(stream)
        self._retire(stream)
        self._senders.discard(duplex)
        return pending

    def adopt(self, duplex: StreamDuplex, pending: Pending) -> None:
        """Go on with a stream that another port has withdrawn.

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
        """Whether another stream can be opened."""
        return not self._mux.exhausted

    @property
    def unanswered(self) -> int | None:
        """The oldest stream that sent data and has had no sign of its destination."""
        waiting = (s.stream_id for s in self._unproven - self._uncounted if s.sent)
        return min(waiting, default=None)

    def open_stream(self, *, counted: bool = True) -> StreamDuplex:
        """Return a new stream; the agent connects it when its SYN arrives.

        Args:
            counted: Whether it counts as use of the session: a probe does not.

        Raises:
            LocalProtocolError: There is none; see ``available``.
        """
        stream = self._mux.open()
        if not counted:
            self._uncounted = {s for s in self._uncounted if not s.over} | {stream}
        duplex = StreamDuplex(self, stream)
        self._duplexes[stream.stream_id] = duplex
        self._unproven.add(stream)
        if self._error is not None:
            # The session is over, and whoever chose it had not heard of that yet.
            duplex.fail(self._error)
        self._driver.wake_late()
        return duplex

    def nop(self) -> None:
        """Send a NOP: the service counts it as activity (protocol 7.5)."""
        self._mux.nop()
        self._driver.wake()

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way, or missing, as far as can be known."""
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
            # Nobody needs the session for it any more, even if FIN cannot leave.
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
        """Whether a stream, or all together, have more unread than they may."""
        return bool(self._full) or self._mux.unread > self._buffers.session

    def next_payload(self) -> bytes:
        """Return frames for one message."""
        payload = self._mux.next_payload()
        self.traffic += len(payload)
        return payload

    def after_sending(self) -> None:
        """Let those go on sending that have room again."""
        if self._senders:
            self._senders = {d for d in self._senders if not d.offer_room()}

    def receive(self, payload: bytes) -> None:
        """Take the next bytes from the agent."""
        self.traffic += len(payload)
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
        """Note that some stream could not be connected."""
        self.refusals += 1
        self._mux.dial_failed()

    def fail(self, error: SessionError) -> None:
        """Break all streams, also those that are opened before it is known."""
        self._error = error
        for duplex in list(self._duplexes.values()):
            duplex.fail(error)


class SinglePort:
    """A session that is one connection: the channel's port in basic mode.

    The agent connects at the start of the session, and it cannot tell us of an end of
    the destination unless the session ends with it (protocol 6.4). One session serves
    one stream and no other, so that nothing of one local connection reaches the next.

    Args:
        driver: To be woken when there is something to send.
        buffers: How much may be unread.
        finished: Called once, when the stream is over and all of it was sent.
        ends_with: Whether the destination's end of file is the session's end. An agent
            that connects again instead says nothing of it, so that the end of such a
            session always cuts its stream.
    """

    def __init__(
        self,
        driver: _Waker,
        buffers: Buffers,
        finished: Callable[[], None],
        *,
        ends_with: bool,
    ) -> None:
        self._driver = driver
        self._buffers = buffers
        self._finished = finished
        self._ends_with = ends_with
        self._error: SessionError | None = None
        self._stream = Stream(0)
        self._duplex: StreamDuplex | None = None
        self._told = False
        self.traffic = 0
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
        """1 while somebody here holds the stream."""
        return int(self._duplex is not None and not self._stream.aborted)

    @property
    def available(self) -> bool:
        """Whether the stream can still be had."""
        return self._duplex is None

    def open_stream(self, *, counted: bool = True) -> StreamDuplex:
        """Return the session's only stream.

        Raises:
            LocalProtocolError: It was given away before, or is not wanted for use.
        """
        if self._duplex is not None or not counted:
            raise LocalProtocolError("a basic session has one stream")
        self._duplex = StreamDuplex(self, self._stream)
        if self._error is not None:
            # The session is over, and whoever chose it had not heard of that yet.
            self._duplex.fail(self._error)
        return self._duplex

    def nop(self) -> None:
        """Do nothing: basic mode has no word for it, and every byte is data."""

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way, or missing, as far as can be known."""
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
        """Take no more to send. There is no end of file on the wire."""
        stream.finishing = True

    def close(self, stream: Stream) -> None:
        """Send what is pending, then let the session end."""
        stream.finishing = True
        if not stream.aborted:
            stream.aborted = True
            stream.read()
            self._driver.reading_changed()
        self._finish_if_over()

    def abort(self, stream: Stream) -> None:
        """Let the session end at once."""
        stream.discard_pending()
        self.close(stream)

    # Called by the driver.

    @property
    def congested(self) -> bool:
        """Whether more is unread than may be."""
        return self._stream.unread > self._buffers.stream

    def next_payload(self) -> bytes:
        """Return the next piece of the stream."""
        if not self._stream.pending:
            return b""
        payload = self._stream.take(MAX_PAYLOAD)
        self.traffic += len(payload)
        return payload

    def after_sending(self) -> None:
        """Let the stream go on, or finish it."""
        if self._duplex is not None:
            self._duplex.offer_room()
            self._finish_if_over()

    def _finish_if_over(self) -> None:
        if self._stream.aborted and not self._stream.pending and not self._told:
            self._told = True
            self._finished()

    def receive(self, payload: bytes) -> None:
        """Take the next bytes from the agent."""
        self.traffic += len(payload)
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
        if orderly and self._ends_with and not self._driver.missing:
            self._stream.ended = True
        if self._duplex is not None:
            self._duplex.fail(error)
