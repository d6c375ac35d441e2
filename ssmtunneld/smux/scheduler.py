"""The order in which streams send (design D3).

A stream with new data goes before streams that have had their turn and still have more:
a keystroke passes bulk transfers. Bulk transfers take several frames
at a time, because the agent then writes them to their destination at once; 64 uploads
together move a seventh more than with single frames of 1 KiB.
"""

from collections import deque
from typing import Final

from ssmtunneld.smux.stream import Stream

QUANTUM: Final = 8 << 10
"""Bytes that a stream with more to send takes before the next such stream: eight frames
of the usual size, or a single large one."""


class SendScheduler:
    """The streams that have a frame to send, in order.

    A stream is in here exactly while it is ``ready``.
    """

    __slots__ = ("_fresh", "_lasting", "_lasting_next", "_left")

    def __init__(self) -> None:
        self._fresh: deque[Stream] = deque()
        self._lasting: deque[Stream] = deque()
        self._left = QUANTUM
        # Turn and turn about, so that many fresh streams never shut out the others.
        self._lasting_next = False

    def add(self, stream: Stream) -> None:
        """Take in ``stream``, which has become ready."""
        self._fresh.append(stream)

    def remove(self, stream: Stream) -> None:
        """Take out ``stream``, which has not had a turn yet."""
        self._fresh.remove(stream)

    def peek(self) -> Stream | None:
        """Return the stream whose turn it is, or ``None``."""
        if self._fresh and not (self._lasting_next and self._lasting):
            return self._fresh[0]
        return self._lasting[0] if self._lasting else None

    def took(self, stream: Stream, size: int) -> None:
        """Note that ``stream``, which :meth:`peek` returned, has had a turn.

        Args:
            stream: The stream.
            size: Bytes that it took.
        """
        if self._fresh and stream is self._fresh[0]:
            self._fresh.popleft()
            self._lasting_next = True
            if stream.ready:
                self._lasting.append(stream)
            return
        self._lasting_next = False
        self._left -= size
        if not stream.ready:
            self._lasting.popleft()
            self._left = QUANTUM
        elif self._left <= 0:
            self._lasting.rotate(-1)
            self._left = QUANTUM
