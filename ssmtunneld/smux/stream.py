"""One smux stream: the data to send, and the data to read."""

from collections import deque
from typing import Final

PIECE_OVERHEAD: Final = 64
"""Bytes that CPython needs for one buffered piece, without its content. They count, so
that a peer that sends single bytes cannot fill the memory under a bound in bytes."""


class Stream:
    """The two halves of one stream; its session moves the bytes.

    The sending half is over when FIN was sent; the receiving half when FIN arrived and
    everything before it was read. A stream that the agent could not connect is
    ``refused``: it ended without a byte, behind a notice that some dial had failed.
    """

    __slots__ = (
        "_incoming",
        "_outgoing",
        "_taken",
        "aborted",
        "ended",
        "fin_sent",
        "finishing",
        "pending",
        "received",
        "refused",
        "sent",
        "stream_id",
        "syn_sent",
        "unread",
    )

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self._outgoing: deque[bytes] = deque()
        self._taken = 0  # bytes of the first of these
        self.pending = 0
        """Bytes that wait to be sent."""
        self._incoming: list[bytes] = []
        self.unread = 0
        """Bytes of memory that what waits to be read takes."""
        self.sent = 0
        """Bytes that went into frames."""
        self.received = 0
        """Bytes that arrived."""
        self.syn_sent = False
        self.finishing = False
        """Nothing follows after what is pending."""
        self.fin_sent = False
        self.ended = False
        """The peer has finished: nothing more arrives."""
        self.refused = False
        self.aborted = False
        """We have forgotten the stream; what arrives for it is dropped."""

    @property
    def ready(self) -> bool:
        """True if there is a frame to send."""
        return bool(
            self.pending or not self.syn_sent or (self.finishing and not self.fin_sent)
        )

    @property
    def over(self) -> bool:
        """True if nothing more is sent, and nothing more received or wanted."""
        return self.fin_sent and (self.ended or self.aborted)

    def put(self, data: bytes) -> None:
        """Queue ``data`` to be sent."""
        self._outgoing.append(data)
        self.pending += len(data)

    def discard_pending(self) -> None:
        """Forget what waits to be sent."""
        self._outgoing.clear()
        self._taken = 0
        self.pending = 0

    def take_all(self) -> bytes:
        """Remove and return everything that waits to be sent, without counting it."""
        data = b"".join(self._outgoing)[self._taken :]
        self.discard_pending()
        return data

    def take(self, limit: int) -> bytes:
        """Remove and return up to ``limit`` pending bytes, gathering small pieces."""
        piece = self._take_of_first(limit)
        if len(piece) < limit and self._outgoing:
            pieces = [piece]
            limit -= len(piece)
            while limit and self._outgoing:
                pieces.append(self._take_of_first(limit))
                limit -= len(pieces[-1])
            piece = b"".join(pieces)
        self.pending -= len(piece)
        self.sent += len(piece)
        return piece

    def _take_of_first(self, limit: int) -> bytes:
        # The rest of a large piece stays where it is, behind what was taken of it.
        first = self._outgoing[0]
        start = self._taken
        end = start + limit
        if end < len(first):
            self._taken = end
            return first[start:end]
        self._outgoing.popleft()
        self._taken = 0
        return first[start:]

    def arrive(self, data: bytes) -> None:
        """Add bytes that arrived from the peer."""
        self._incoming.append(data)
        self.unread += len(data) + PIECE_OVERHEAD
        self.received += len(data)

    def read(self) -> bytes:
        """Remove and return everything that waits to be read."""
        incoming = self._incoming
        if not incoming:
            return b""
        self._incoming = []
        self.unread = 0
        return incoming[0] if len(incoming) == 1 else b"".join(incoming)
