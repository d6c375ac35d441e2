"""A file of lines that other programs can move away while we write."""

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from ssmtunneld.base.on_error import on_error

MODE: Final = 0o600
"""Permissions of the file, whatever they were."""

_NEWLINE: Final = b"\n"
_BEGINNING: Final = b'{"time": "'
_LOOK: Final = 64
"""Bytes by which such a file is known."""
_A_LINK: Final = "it is a symbolic link"
_NOT_REGULAR: Final = "it is not a regular file"


class AuditFile(io.RawIOBase):
    """Appends to the file at ``path``, and to a new one once that has been moved.

    It is looked for before each write: a rotation needs no signal. Used by one thread.

    Attributes:
        trouble: Why it cannot be written; empty while it can be.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file: int | None = None
        self._fresh = False
        self.trouble = ""

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: Any, /) -> int:
        """Append ``data``, or as much of it as there is room for.

        Raises:
            OSError: None of it can be written; ``trouble`` says why.
            ValueError: It is closed.
        """
        if self.closed:
            raise ValueError("it is closed")
        try:
            written = self._append(self._current(), bytes(data))
        except OSError as error:
            self.trouble = error.strerror or str(error)
            raise
        self.trouble = ""
        return written

    def look(self) -> None:
        """Open the file if it can be opened; ``trouble`` says if not."""
        try:
            self._current()
        except OSError as error:
            self.trouble = error.strerror or str(error)
        else:
            self.trouble = ""

    @override
    def close(self) -> None:
        """Close the file; idempotent."""
        self._leave()
        super().close()

    def _append(self, file: int, data: bytes) -> int:
        # A line that was torn off is in the file before this one, or was cut off with
        # all others by somebody who has emptied this one.
        ends_line = data[:1] == _NEWLINE
        skipped = ends_line and (self._fresh or not os.fstat(file).st_size)
        written = skipped + os.write(file, data[skipped:])
        self._fresh = False
        return written

    def _current(self) -> int:
        if self._file is not None and not self._is_still(self._file):
            self._leave()
        if self._file is None:
            self._file = self._open()
        return self._file

    def _is_still(self, file: int) -> bool:
        try:
            there = self._path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(file))

    def _leave(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def _open(self) -> int:
        # Not through a link, nor a pipe that waits for its reader.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            file = os.open(self._path, flags | os.O_CLOEXEC, MODE)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, _A_LINK) from None
            raise
        with on_error(os.close, file):
            _prepare(file)
        self._fresh = True
        return file


def foresee(path: Path) -> str:
    """Return why nothing could be written to ``path``; empty if that cannot be seen.

    Nothing is created or opened for it.
    """
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return "" if path.parent.is_dir() else f"there is no folder {path.parent}"
    except OSError as error:
        return error.strerror or str(error)
    if stat.S_ISLNK(found.st_mode):
        return _A_LINK
    return "" if stat.S_ISREG(found.st_mode) else _NOT_REGULAR


def _is_audit(beginning: bytes) -> bool:
    """Return True if a file that begins so has such lines; the first may be torn."""
    first, _, _ = beginning.lstrip(_NEWLINE).partition(_NEWLINE)
    return len(first) > 1 and first[: len(_BEGINNING)] == _BEGINNING[: len(first)]


def _prepare(file: int) -> None:
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, _NOT_REGULAR)
    # Before anything of it is changed.
    if found.st_size and not _is_audit(os.pread(file, _LOOK, 0)):
        raise OSError(errno.EINVAL, "it holds something else; name a file of its own")
    if stat.S_IMODE(found.st_mode) != MODE:
        os.fchmod(file, MODE)
    # A daemon that was killed may have left half a line.
    if found.st_size and os.pread(file, 1, found.st_size - 1) != _NEWLINE:
        os.write(file, _NEWLINE)
