"""Memory of the process that a daemon keeps, although nothing in it is in use.

Python's collector looks for cycles that nobody uses: often in what is young, seldom in
all. Most of what a daemon has is made at its start, and stays: code, and botocore's
models. To look through all of that takes 20 ms, and 200 on a slow machine with hundreds
of tunnels, in which nothing moves; and while it grows, that happens again and again.
"""

import ctypes
import gc
import sys
from typing import Any, Final

_ARENA_MAX: Final = -8
"""M_ARENA_MAX of malloc.h."""
_ARENAS: Final = 1
"""Heaps of the C library, instead of up to eight for each core. Threads wait for the
network here, or hold the interpreter's lock: they have no use for one each."""
_NEVER: Final = 1_000_000
"""Looks at what is young between two looks at all: those of hours."""
_USUAL: Final = gc.get_threshold()[2]


def bound_heaps() -> None:
    """Let all threads share the heaps of the C library; where it is glibc."""
    library = _c_library()
    if library is not None:
        library.mallopt(_ARENA_MAX, _ARENAS)


def begin() -> None:
    """Look no more at what there is, and of the rest at the young, until `settle`."""
    gc.freeze()
    youngest, young, _ = gc.get_threshold()
    gc.set_threshold(youngest, young, _NEVER)


def settle() -> None:
    """Give back what the start has left, and look no more at what it has made.

    Of 66,000 objects some 600 are in use by nobody then, and stay too.
    """
    gc.freeze()
    youngest, young, _ = gc.get_threshold()
    gc.set_threshold(youngest, young, _USUAL)
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
