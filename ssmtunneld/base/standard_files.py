"""Descriptors 0, 1 and 2 of a process that was started without some of them.

The next file or socket that such a process opens would get the free number, and
code that writes an error to descriptor 2 would write it there.
"""

import codecs
import io
import os
import sys
from typing import Final, TextIO, cast

_LAST: Final = 2
_ANY_TEXT: Final = "ssmtunneld.any_text"


def ensure_standard_files() -> None:
    """Open the null device as each of descriptors 0 to 2 that is closed.

    To be called before anything else opens files. Gives ``sys.stdin``, ``sys.stdout``
    and ``sys.stderr`` a stream where they have none, and lets the output take any text:
    a path is written with the bytes that it has, and what the terminal's encoding lacks
    as an escape.

    Raises:
        OSError: There is no null device.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST:
        # Programs that we start rely on these three as well.
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - takes no keyword
    os.close(descriptor)
    sys.stdin = sys.stdin or _stream(0, "r")
    sys.stdout = sys.stdout or _stream(1, "w")
    sys.stderr = sys.stderr or _stream(2, "w")
    codecs.register_error(_ANY_TEXT, _encode)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=_ANY_TEXT)


def _stream(descriptor: int, mode: str) -> TextIO:
    stream = os.fdopen(
        descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    return cast("TextIO", stream)


def _encode(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for text that an encoding has not, and where it ends."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
