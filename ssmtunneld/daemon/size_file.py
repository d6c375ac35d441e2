"""The file in which a daemon keeps what it knows of larger messages (design D22).

Sizes are tried again when it is gone, older than a week, or damaged: nothing depends on
it. It is written in a thread, in one step, and for its owner only. A configuration that
was in a temporary folder leaves its file behind: each daemon removes those of others
that are older than a week.
"""

import asyncio
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from ssmtunneld.base.folders import read_private_file, replace_private_file
from ssmtunneld.base.log import EventLog
from ssmtunneld.base.paths import listed
from ssmtunneld.daemon.instance_lock import state_directory
from ssmtunneld.sessions.message_sizes import MessageSizes

FILE_LIMIT: Final = 64 << 10
"""Bytes that are read; as many records as are kept have half of that at most."""
SETTLING: Final = 1.0
"""Seconds after a change in which further ones are written with it."""


_SUFFIX: Final = ".sizes.json"


def size_file(name: str) -> Path:
    """Return the file of the instance called ``name``."""
    return state_directory() / f"{name}{_SUFFIX}"


class SizeFile:
    """Keeps the records of one daemon.

    Args:
        path: The file.
        sizes: The records; what the file has is taken over at once. What they have
            already is written.
        log: Gets a line if it cannot be written.
    """

    def __init__(self, path: Path, sizes: MessageSizes, log: EventLog) -> None:
        self._path = path
        self._sizes = sizes
        self._log = log
        self._changed = asyncio.Event()
        self._told = ""
        if sizes.export():
            self._changed.set()
        sizes.restore(_read(path))
        sizes.changed = self._changed.set

    async def run(self) -> None:
        """Write the file after each change until cancelled, and once more then.

        Files of others that are of no use to anybody are removed before.
        """
        try:
            await asyncio.to_thread(self._clear, self._sizes.oldest)
            while True:
                await self._changed.wait()
                await asyncio.sleep(SETTLING)
                self._changed.clear()
                await asyncio.to_thread(self._write, self._sizes.export())
        finally:
            if self._changed.is_set():
                self._write(self._sizes.export())

    def _clear(self, oldest: float) -> None:
        # Also what a write that was killed has left, and nothing that we write now.
        for path in listed(self._path.parent, f"*{_SUFFIX}*"):
            if self._path.name not in path.name:
                with suppress(OSError):
                    _remove_old(path, oldest)

    def _write(self, entries: list[dict[str, object]]) -> None:
        try:
            replace_private_file(self._path, json.dumps(entries, indent=1).encode())
            self._told = ""
        except OSError as error:
            # Once, however often it is tried.
            # Its text has the name of a new temporary file each time.
            reason = error.strerror or type(error).__name__
            if reason != self._told:
                self._told = reason
                self._log.info("size.not_kept", reason=reason)


def _remove_old(path: Path, oldest: float) -> None:
    """Remove the file ``path`` if it was last written before ``oldest``.

    Its daemon may live: it has no record that would count for another one. What it
    writes meanwhile stays.

    Raises:
        OSError: It cannot be removed, or somebody else has.
    """
    if not _is_old(path, oldest):
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    path.rename(aside)  # nobody writes into it any more, and it can be looked at again
    if not _is_old(aside, oldest):
        with suppress(FileExistsError):  # there is a newer one already
            path.hardlink_to(aside)
    aside.unlink()


def _is_old(path: Path, oldest: float) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_mtime < oldest


def _read(path: Path) -> object:
    try:
        return json.loads(read_private_file(path, FILE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
