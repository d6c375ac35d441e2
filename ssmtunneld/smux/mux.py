"""The client's end of an smux version 1 session (protocol 7, design D3).

Frames are pulled, not pushed: a driver with room for a message asks for the next, so
that the choice of what to send is made at the last moment (``scheduler.py``).
"""

from collections.abc import Iterable
from typing import Final

from ssmtunneld.base.record import Record
from ssmtunneld.errors import LocalProtocolError
from ssmtunneld.smux.frame import (
    HEADER_SIZE,
    Command,
    FrameDecoder,
    encode_frame,
)
from ssmtunneld.smux.scheduler import SendScheduler
from ssmtunneld.smux.stream import PIECE_OVERHEAD, Stream

FIRST_STREAM_ID: Final = 3
"""The official client counts from 1 in steps of two before use (protocol 7.3)."""
MESSAGE_SIZE: Final = 1024
"""Bytes that one message of the data channel carries as a rule (protocol 4.4)."""
MAX_STREAM_ID: Final = 2**32 - 1
_WORTHWHILE: Final = 64
"""Bytes of data below which a frame is not begun in the rest of a message: its header
of eight would cost more than a tenth."""
MAX_SILENT: Final = 1024
"""Forgotten streams that are remembered in case the agent could not connect them. Of
more, which come only where it answers none of them, the oldest are given up."""
_NOP: Final = encode_frame(Command.NOP, 0)


class MuxStatistics(Record):
    """A snapshot of one smux session."""

    streams: int
    unread: int
    """Bytes of memory that what arrived and was not read takes."""
    pending: int
    """Bytes that wait to be sent."""
    opened: int
    """Streams, since the beginning."""
    refused: int
    """Of these, how many the agent could not connect."""
    dropped: int
    """Bytes that arrived for streams that we had forgotten."""


class Mux:
    """Streams that we open, inside the byte stream of one data channel."""

    def __init__(self) -> None:
        self._streams: dict[int, Stream] = {}
        self._turns = SendScheduler()
        self._decoder = FrameDecoder()
        self._next_id = FIRST_STREAM_ID
        self._nop_due = False
        self._failed_dials = 0
        self._silent: dict[int, None] = {}
        """Forgotten streams that never had a byte, until the peer ends them."""
        self._opened = 0
        self._refused = 0
        self._dropped = 0
        self.unread = 0
        """Bytes of memory that all streams' unread data takes."""

    @property
    def exhausted(self) -> bool:
        """True if all stream ids are used up: only a new session helps."""
        return self._next_id > MAX_STREAM_ID

    @property
    def streams(self) -> int:
        """Streams that are not yet over."""
        return len(self._streams)

    def open(self) -> Stream:
        """Return a new stream; its SYN waits for the next message.

        Raises:
            LocalProtocolError: The session is exhausted.
        """
        if self.exhausted:
            raise LocalProtocolError("all stream ids are used up")
        stream = Stream(self._next_id)
        self._next_id += 2
        self._opened += 1
        self._streams[stream.stream_id] = stream
        self._turns.add(stream)
        return stream

    def send(self, stream: Stream, data: bytes) -> None:
        """Queue ``data`` on ``stream``; the caller bounds ``stream.pending``.

        Nothing is queued once the stream is finishing: the peer, or we, ended it.
        """
        if not data or stream.finishing:
            return
        if not stream.ready:
            self._turns.add(stream)
        stream.put(data)

    def finish(self, stream: Stream) -> None:
        """Send FIN after what is pending; idempotent."""
        if stream.finishing:
            return
        if not stream.ready:
            self._turns.add(stream)
        stream.finishing = True

    def _finish_at_once(self, stream: Stream) -> None:
        # In this order: a stream that is ready has its turn, and must not get another.
        self.finish(stream)
        stream.discard_pending()

    def close(self, stream: Stream) -> None:
        """Send what is pending, then FIN, and read no more; idempotent."""
        if stream.aborted:
            return
        self.read(stream)
        self.finish(stream)
        stream.aborted = True
        self._forget_if_over(stream)

    def abort(self, stream: Stream) -> None:
        """Close ``stream`` without sending what is pending; idempotent."""
        self._finish_at_once(stream)
        self.close(stream)

    @property
    def open_streams(self) -> Iterable[Stream]:
        """Streams that are not yet over."""
        return self._streams.values()

    def withdraw(self, stream: Stream) -> None:
        """Forget a stream whose SYN has not been sent: the peer never hears of it."""
        del self._streams[stream.stream_id]
        self._turns.remove(stream)
        self._opened -= 1

    def read(self, stream: Stream) -> bytes:
        """Remove and return everything that waits to be read on ``stream``."""
        self.unread -= stream.unread
        return stream.read()

    def nop(self) -> None:
        """Ask for a NOP in the next message (protocol 7.5)."""
        self._nop_due = True

    def dial_failed(self) -> None:
        """Note that the agent could not connect some stream.

        It does not say which. Dials are serial and the notice precedes its FIN, so the
        next stream that ends without a byte is most likely the one (protocol 6.6).
        """
        self._failed_dials += 1

    def receive(self, data: bytes) -> list[Stream]:
        """Take the next bytes of the peer; return the streams they changed.

        Raises:
            RemoteProtocolError: They are not smux version 1.
        """
        changed: list[Stream] = []
        for command, stream_id, payload in self._decoder.feed(data):
            stream = self._streams.get(stream_id)
            if stream is None:
                self._drop(command, stream_id, payload)
            elif command is Command.PSH:
                if stream.aborted:
                    stream.received += len(payload)
                    self._dropped += len(payload)
                    continue
                stream.arrive(payload)
                self.unread += len(payload) + PIECE_OVERHEAD
                changed.append(stream)
            elif command is Command.FIN:
                self._end(stream)
                changed.append(stream)
        return changed

    def _drop(self, command: Command, stream_id: int, payload: bytes) -> None:
        self._dropped += len(payload)
        if stream_id in self._silent:
            del self._silent[stream_id]
            if command is Command.FIN and self._failed_dials:
                # The failed dial was most likely of this stream, which is over.
                self._failed_dials -= 1

    def _end(self, stream: Stream) -> None:
        stream.ended = True
        if self._failed_dials and not stream.received:
            self._failed_dials -= 1
            self._refused += 1
            stream.refused = True
        # The agent has closed its destination: it drops what we still send (6.6).
        self._finish_at_once(stream)
        self._forget_if_over(stream)

    def _forget_if_over(self, stream: Stream) -> None:
        if stream.over:
            self._streams.pop(stream.stream_id, None)
            if not stream.ended and not stream.received:
                self._silent[stream.stream_id] = None
                if len(self._silent) > MAX_SILENT:
                    del self._silent[next(iter(self._silent))]

    def next_payload(self, limit: int = MESSAGE_SIZE) -> bytes:
        """Return whole frames for one message of at most ``limit`` bytes, or ``b""``.

        Streams take turns; one turn is at most one PSH. What is ready together shares
        the message: SYN and first data, last data and FIN, other small frames.
        Above ``MESSAGE_SIZE`` it is of one stream that has as much to send: no
        keystroke waits for a bulk transfer to fill up its message.
        """
        parts: list[bytes] = []
        room = limit
        if limit > MESSAGE_SIZE:
            first = self._turns.peek()
            if first is None or first.pending <= MESSAGE_SIZE:
                room = MESSAGE_SIZE
        if self._nop_due:
            self._nop_due = False
            parts.append(_NOP)
            room -= HEADER_SIZE
        turns = self._turns
        while room > HEADER_SIZE and (stream := turns.peek()) is not None:
            if parts and not _worthwhile(stream, room):
                break
            used = self._take_turn(stream, room, parts)
            room -= used
            turns.took(stream, used)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_turn(self, stream: Stream, room: int, parts: list[bytes]) -> int:
        used = 0
        if not stream.syn_sent:
            stream.syn_sent = True
            parts.append(encode_frame(Command.SYN, stream.stream_id))
            used += HEADER_SIZE
        if stream.pending and room - used > HEADER_SIZE:
            data = stream.take(room - used - HEADER_SIZE)
            parts.append(encode_frame(Command.PSH, stream.stream_id, data))
            used += HEADER_SIZE + len(data)
        if stream.finishing and not stream.pending and room - used >= HEADER_SIZE:
            stream.fin_sent = True
            parts.append(encode_frame(Command.FIN, stream.stream_id))
            used += HEADER_SIZE
            self._forget_if_over(stream)
        return used

    def statistics(self) -> MuxStatistics:
        """Return a snapshot."""
        return MuxStatistics(
            streams=len(self._streams),
            unread=self.unread,
            pending=sum(s.pending for s in self._streams.values()),
            opened=self._opened,
            refused=self._refused,
            dropped=self._dropped,
        )


def _worthwhile(stream: Stream, room: int) -> bool:
    needed = HEADER_SIZE + min(stream.pending, _WORTHWHILE)
    if not stream.syn_sent:
        needed += HEADER_SIZE
    return room >= needed
