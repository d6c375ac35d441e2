"""Output of log lines to a stream whose reader can go away.

A terminal that was closed, a full disk or a reader that has ended must not end the
process that only wanted to say something.
"""

import io
import threading
from collections.abc import Callable
from typing import Final, TextIO

_ENCODING: Final = "utf-8"
_ERRORS: Final = "backslashreplace"


class LogOutput:
    """Writes lines to a stream, and counts those that it would not take.

    The stream's own buffer is passed by. It would keep what could not be written, try
    it again with every later line, and at last fail the end of the process.

    May be used by any thread.

    Args:
        stream: Where to; one without a file below it is written to as it is.
        notice: Returns the line, without its end, that says how many were lost.

    Attributes:
        notice: The same one; can be replaced.
    """

    def __init__(self, stream: TextIO, notice: Callable[[int], str]) -> None:
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)
        self._raw = raw if isinstance(raw, io.RawIOBase) else None
        self._stream = stream
        self.notice = notice
        self._lock = threading.RLock()
        self._lost = 0
        self._lost_ever = 0
        self._torn = False

    @property
    def lost(self) -> int:
        """Lines that could not be written since the last one that could be."""
        return self._lost

    @property
    def lost_ever(self) -> int:
        """Lines that could not be written since the beginning."""
        return self._lost_ever

    @property
    def is_file(self) -> bool:
        """True if a file is below, so that writing can block."""
        return self._raw is not None

    def lose(self, lines: int) -> None:
        """Count ``lines`` that were lost before they came here."""
        with self._lock:
            self._note_loss(lines)

    def _note_loss(self, lines: int) -> None:
        self._lost += lines
        self._lost_ever += lines

    def renew(self) -> None:
        """Begin anew in a child process, whose parent could have held the lock."""
        self._lock = threading.RLock()
        self._lost = self._lost_ever = 0

    def write(self, text: str) -> int:
        """Write whole lines, or lose them: all that goes wrong is counted.

        The first line after a loss comes behind one that says how much was lost.

        Returns:
            How much of ``text`` there was, as streams do.
        """
        with self._lock:
            if self._lost and not self._put(self.notice(self._lost) + "\n"):
                self._lost = 0
            # Where there is no room for the notice, the line must not come first.
            self._note_loss(_lines(text) if self._lost else self._put(text))
        return len(text)

    def flush(self) -> None:
        """Do nothing: each line is passed on when it is written."""

    def _put(self, text: str) -> int:
        """Write ``text``; return how many of its lines are not written whole."""
        if self._raw is not None:
            return self._put_raw(self._raw, text)
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a ValueError says that it has been closed
            return _lines(text)
        return 0

    def _put_raw(self, raw: io.RawIOBase, text: str) -> int:
        lines = _lines(text)
        if self._torn:
            # What was torn off stays so; the next line begins where lines begin.
            text = f"\n{text}"
        data = memoryview(text.encode(_ENCODING, _ERRORS))
        while data:
            try:
                written = raw.write(data)
            except (OSError, ValueError):
                written = None
            # A stream that somebody has made non-blocking says so by None.
            if not written:
                return min(lines, max(1, bytes(data).count(b"\n")))
            self._torn = data[written - 1] != ord("\n")
            data = data[written:]
        return 0


def _lines(text: str) -> int:
    return max(1, text.count("\n"))
