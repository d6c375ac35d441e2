"""Random bytes in small pieces, without a system call for each piece."""

import os
from typing import Final

BLOCK: Final = 1024
"""Bytes that are fetched from the kernel at a time."""


class RandomBytes:
    """The kernel's random bytes, a few at a time.

    Every message needs an id and every frame a mask: with a system call for each of
    them, a quarter of the processor time of an upload went into that.
    """

    __slots__ = ("_block", "_used")

    def __init__(self) -> None:
        self._block = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        """Return ``count`` bytes that were never returned before; at most a block."""
        end = self._used + count
        if end > len(self._block):
            self._block = os.urandom(BLOCK)
            self._used, end = 0, count
        piece = self._block[self._used : end]
        self._used = end
        return piece
