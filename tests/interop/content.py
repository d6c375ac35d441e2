"""Data that differs everywhere, so that a lost, repeated or swapped byte shows."""

import hashlib
from random import Random

MEBIBYTE = 1 << 20


def noise(size, seed):
    """Return ``size`` bytes that are a function of ``seed``."""
    return Random(seed).randbytes(size)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sha256_of(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
