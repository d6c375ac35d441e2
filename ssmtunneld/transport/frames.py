"""Whole binary frames, found without the library's parser (RFC 6455 section 5.2).

Nearly everything that arrives is one message in one frame. The library's parser is a
generator that reads a few bytes at a time and makes an object of each frame: two
thirds of what an acknowledgement costs. So those frames are cut out here, and the rest
(control frames, fragments, nonsense) goes to the library as it came.
"""

import re
from struct import Struct
from typing import Final

from websockets import frames

# The fastest of the library's two: one in C, where it could be compiled.
_apply_mask: Final = frames.apply_mask  # type: ignore[attr-defined] # not in __all__
_SMALL: Final = Struct(">BB")
_MEDIUM: Final = Struct(">BBH")
_LARGE: Final = Struct(">BBQ")
_BINARY: Final = 0x82  # FIN, and nothing reserved
_TEXT: Final = 0x81  # means the same here (protocol 2.4)
_FIN: Final = 0x80
_OPCODE: Final = 0x0F
_LAST_DATA_OPCODE: Final = 2
_OPCODES: Final = frozenset({0, 1, 2, 8, 9, 10})
_MASKED: Final = 0x80
_LENGTH_IN_2: Final = 126
_LENGTH_IN_8: Final = 127
_MORE_LENGTH: Final = {_LENGTH_IN_2: 2, _LENGTH_IN_8: 8}
_END_OF_HEAD: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] +([1-5][0-9]{2})[ \r]")

HEAD_LIMIT: Final = 16 << 10
"""Bytes of an HTTP head; the service's has 129, and proxies add a few lines."""


class Head:
    """Collects an HTTP head from bytes that are cut anywhere.

    Attributes:
        over: The head is complete, or longer than ``HEAD_LIMIT``.
        whole: The head with its empty line, once it is here.
        rest: The data behind the head.
    """

    __slots__ = ("_data", "over", "rest", "whole")

    def __init__(self) -> None:
        self._data = bytearray()
        self.over = False
        self.whole = b""
        self.rest = b""

    def feed(self, data: bytes) -> bool:
        """Take what was read, unless it is over; return whether it is over now."""
        start = max(0, len(self._data) + 1 - len(_END_OF_HEAD))
        self._data += data
        end = self._data.find(_END_OF_HEAD, start, HEAD_LIMIT)
        if end >= 0:
            end += len(_END_OF_HEAD)
            self.whole = bytes(self._data[:end])
            self.rest = bytes(self._data[end:])
        self.over = end >= 0 or len(self._data) >= HEAD_LIMIT
        if self.over:
            self._data.clear()
        return self.over

    @property
    def status(self) -> int | None:
        """The status code of a whole head; ``None`` where it is not of HTTP/1."""
        found = _STATUS.match(self.whole)
        return None if found is None else int(found[1])


class FrameReader:
    """Finds the frames in bytes that are cut anywhere.

    It holds at most one frame that has not arrived in full. Behind what the library
    refuses, and what it can refuse before it is whole, everything is left to it.

    Args:
        limit: Bytes of payload from which on a frame is the library's to refuse, as
            soon as its header is here.
    """

    __slots__ = (
        "_at",
        "_data",
        "_fragmented",
        "_held",
        "_limit",
        "_needed",
        "_surrendered",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = b""
        self._at = 0
        self._held = bytearray()
        self._needed = 0
        self._fragmented = False
        self._surrendered = False

    def feed(self, data: bytes) -> None:
        """Take what was read; :meth:`read` must have returned ``None`` before."""
        held = self._held
        if held:
            held += data
            if len(held) < self._needed:
                data = b""
            else:
                data = bytes(held)
                held.clear()
        self._data = data
        self._at = 0

    def read(self, messages: list[bytes]) -> bytes | None:
        """Append what is plain to ``messages``, up to the first frame that is not.

        Returns:
            That frame, for the library: call again afterwards. ``None`` if there is
            none in what was fed.
        """
        data, at = self._data, self._at
        # Up to where a length of two bytes is here too.
        end = 0 if self._fragmented or self._surrendered else len(data) - 3
        while at < end and (data[at] == _BINARY or data[at] == _TEXT):
            size = data[at + 1]
            start = at + 2
            if size >= _LENGTH_IN_2:
                if size > _LENGTH_IN_2:
                    break
                size = data[at + 2] << 8 | data[at + 3]
                start = at + 4
            stop = start + size
            if stop > len(data):
                self._hold(at, stop)
                return None
            messages.append(data[start:stop])
            at = stop
        return self._read_other(at)

    def _read_other(self, at: int) -> bytes | None:
        data = self._data
        if self._surrendered and at < len(data):
            return self._surrender(at)
        if at + 2 > len(data):
            self._hold(at, at + 2)
            return None
        first, size = data[at], data[at + 1]
        start = at + 2 + _MORE_LENGTH.get(size, 0)
        if first & _OPCODE not in _OPCODES or size & _MASKED:
            return self._surrender(at)
        if start > len(data):
            self._hold(at, start)
            return None
        if size >= _LENGTH_IN_2:
            size = int.from_bytes(data[at + 2 : start])
        if size > self._limit:
            return self._surrender(at)
        if start + size > len(data):
            self._hold(at, start + size)
            return None
        self._note_fragment(first)
        self._at = start + size
        return data[at : self._at]

    def _surrender(self, at: int) -> bytes:
        self._surrendered = True
        self._at = len(self._data)
        return self._data[at:]

    def _note_fragment(self, first: int) -> None:
        opcode = first & _OPCODE
        if opcode <= _LAST_DATA_OPCODE:
            self._fragmented = not first & _FIN

    def _hold(self, at: int, needed_until: int) -> None:
        if at < len(self._data):
            self._held += self._data[at:]
            self._needed = needed_until - at
        self._data = b""
        self._at = 0


def encode_frame(data: bytes, mask: bytes) -> bytes:
    """Return a masked, unfragmented binary frame (RFC 6455 section 5.2)."""
    size = len(data)
    if size < _LENGTH_IN_2:
        head = _SMALL.pack(_BINARY, _MASKED | size)
    elif size < 1 << 16:
        head = _MEDIUM.pack(_BINARY, _MASKED | _LENGTH_IN_2, size)
    else:
        head = _LARGE.pack(_BINARY, _MASKED | _LENGTH_IN_8, size)
    return b"".join((head, mask, _apply_mask(data, mask)))
