"""Memory of the process that a daemon keeps, although nothing in it is in use."""

import ctypes
import gc
import sys
from typing import Any, Final

_ARENA_MAX: Final = -8
"""M_ARENA_MAX of malloc.h."""
_ARENAS: Final = 1
"""Heaps of the C library, instead of up to eight for each core. Threads wait for the
network here, or hold the interpreter's lock: they have no use for one each."""


def bound_heaps() -> None:
    """Let all threads share the heaps of the C library; where it is glibc."""
    library = _c_library()
    if library is not None:
        library.mallopt(_ARENA_MAX, _ARENAS)


def settle() -> None:
    """Give back what the start has left, and look no more at what it has made.

    What exists once all is ready stays, most of it code and botocore's models; the
    collector's look through all of it takes 20 ms, in which nothing moves.
    """
    gc.collect()
    gc.freeze()
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


def _c_library() -> Any | None:  # noqa: ANN401 - ctypes has no better type
    """Return glibc; None for other libraries, which have neither function."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    known = hasattr(library, "mallopt") and hasattr(library, "malloc_trim")
    return library if known else None
