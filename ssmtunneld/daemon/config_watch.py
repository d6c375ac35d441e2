"""Noticing that a configuration file has changed, or one that it includes."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from ssmtunneld.config.includes import Includes

INTERVAL: Final = 1.5
"""Seconds between looks at the files."""

_Signature: TypeAlias = tuple[int, int, int, int]
_Signatures: TypeAlias = dict[Path, _Signature | None]


class ConfigWatch:
    """Looks at files now and then, and reports changed files.

    By the files' attributes: that works on every file system, for editors that replace
    a file and for links that are turned over. A change counts once a second look
    finds it as it was at the first: whoever writes is then done, most probably. A main
    file that is gone is not a change; an included one that comes or goes is.

    ``note`` and ``poll`` can be called in any thread, because a folder can have many
    files, and can lie on a server.

    Args:
        path: The main file.
        changed: Called after each change.
        includes: The patterns of the files that it includes.
    """

    def __init__(
        self,
        path: Path,
        changed: Callable[[], None],
        includes: Includes | None = None,
    ) -> None:
        self._path = path
        self._changed = changed
        self._includes = includes or Includes(path)
        self._enabled = asyncio.Event()
        self._turn = threading.Lock()
        self._known = self._last = self._look()

    def enable(self, *, enabled: bool) -> None:
        """Say whether to look; what changed while nobody did counts too."""
        if enabled:
            self._enabled.set()
        else:
            self._enabled.clear()

    def note(self, includes: Includes | None = None) -> None:
        """Take the files as they are for known: they are about to be read.

        Args:
            includes: The patterns that the main file has now; None for those it had.
        """
        with self._turn:
            self._includes = includes or self._includes
            self._known = self._last = self._look()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._enabled.wait()
            await asyncio.sleep(INTERVAL)
            if self._enabled.is_set() and await asyncio.to_thread(self.poll):
                self._changed()

    def poll(self) -> bool:
        """Look once; return whether the files have changed and come to rest."""
        with self._turn:
            seen, last = self._look(), self._last
            self._last = seen
            if seen[self._path] is None or seen != last or seen == self._known:
                return False
            self._known = seen
            return True

    def _look(self) -> _Signatures:
        paths = (self._path, *self._includes.find().paths)
        return {path: _signature(path) for path in paths}


def _signature(path: Path) -> _Signature | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time, for hundreds of files
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
