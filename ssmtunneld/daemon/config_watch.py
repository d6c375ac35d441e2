"""Noticing that the configuration file has changed."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

INTERVAL: Final = 1.5
"""Seconds between looks at the file."""

_Signature: TypeAlias = tuple[int, int, int, int]


class ConfigWatch:
    """Looks at a file now and then, and says when it is another one.

    By the file's attributes: that works on every file system, for editors that replace
    the file and for links that are turned over. A change counts once a second look
    finds it as it was at the first: whoever writes is then done, most probably. A file
    that is gone is not a change.

    Args:
        path: The file.
        changed: Called after each change.
    """

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._enabled = asyncio.Event()
        self._known = self._last = self._look()

    def enable(self, *, enabled: bool) -> None:
        """Say whether to look; what changed while nobody did counts too."""
        if enabled:
            self._enabled.set()
        else:
            self._enabled.clear()

    def note(self) -> None:
        """Take the file as it is for known: it is about to be read."""
        self._known = self._last = self._look()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._enabled.wait()
            await asyncio.sleep(INTERVAL)
            if self._enabled.is_set() and self.poll():
                self._changed()

    def poll(self) -> bool:
        """Look once; return whether the file has changed and come to rest."""
        seen, last = self._look(), self._last
        self._last = seen
        if seen is None or seen != last or seen == self._known:
            return False
        self._known = seen
        return True

    def _look(self) -> _Signature | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
