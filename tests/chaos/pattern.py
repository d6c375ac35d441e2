"""Endless streams of bytes that a key determines, and what checks them on arrival."""

import hashlib
from random import Random

BLOCK = 1 << 14
DIGEST_SIZE = hashlib.sha256().digest_size


class Corrupted(Exception):
    """Bytes arrived that are not the ones that were sent."""


class Pattern:
    """A stream of bytes; the same key gives the same stream, however it is cut."""

    def __init__(self, key):
        self._random = Random(key)
        self._rest = b""

    def take(self, size):
        """Return the next ``size`` bytes."""
        blocks = [self._rest]
        have = len(self._rest)
        while have < size:
            blocks.append(self._random.randbytes(BLOCK))
            have += BLOCK
        data = b"".join(blocks)
        self._rest = data[size:]
        return data[:size]


class Checker:
    """Compares what arrives with a pattern, byte by byte, and hashes it.

    So that a connection that breaks proves something too: what arrived before is a
    prefix of what was sent, with nothing lost, repeated or swapped in it.
    """

    def __init__(self, key):
        self.count = 0
        self._pattern = Pattern(key)
        self._hash = hashlib.sha256()
        self._key = key

    def feed(self, data):
        """Take the next bytes that arrived."""
        expected = self._pattern.take(len(data))
        if data != expected:
            wrong = next(
                i for i, (a, b) in enumerate(zip(data, expected, strict=True)) if a != b
            )
            raise Corrupted(f"{self._key}: wrong from byte {self.count + wrong} on")
        self._hash.update(data)
        self.count += len(data)

    def digest(self):
        """Return the hash of all that arrived."""
        return self._hash.digest()
