"""Folders that no other user may look into, and files in them."""

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

from ssmtunneld.base.on_error import on_error

PRIVATE: Final = 0o700
"""The mode of a folder that is made here."""


def make_private_folder(path: Path) -> None:
    """Make the folder ``path``, and those above it that are missing, all for its owner.

    ``Path.mkdir`` gives the ones above what the umask leaves. A folder that is there
    stays as it is.

    Raises:
        OSError: It cannot be made, or is something else.
    """
    missing = []
    for folder in (path, *path.parents):
        if folder.is_dir():
            break
        missing.append(folder)
    for folder in reversed(missing):
        # Another process can make it meanwhile.
        folder.mkdir(PRIVATE, exist_ok=True)


def read_private_file(path: Path, limit: int) -> bytes:
    """Return the first ``limit`` bytes of the file ``path``. Never waits.

    Raises:
        OSError: It cannot be read, or is no regular file, such as a named pipe.
    """
    # Without O_NONBLOCK, opening a named pipe waits for a writer.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with on_error(os.close, handle):
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
    with os.fdopen(handle, "rb") as file:
        return read_now(file, limit)


def read_now(file: BinaryIO, limit: int = -1) -> bytes:
    """Return ``limit`` bytes of a file, or all, that was opened so as not to wait.

    Raises:
        OSError: It cannot be read, or only by waiting: the kernel has files that call
            themselves regular and are not, such as ``/proc/kmsg``.
    """
    found: bytes | None = file.read(limit)
    if found is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return found


def replace_private_file(path: Path, content: bytes) -> None:
    """Write the file ``path`` in one step, for its owner only; blocking.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    make_private_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with on_error(Path(name).unlink):
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
