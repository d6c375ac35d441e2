"""One log line for a burst of alike events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ssmtunneld.base.log import EventLog

# A client that is refused usually tries again within a second, hundreds do at once; an
# operator needs the first line, and later how many there were.
QUIET: Final = 10.0


# Sources of one event that are told apart: clients must not multiply log lines.
MOST_SOURCES: Final = 64


class RateLimitedLog:
    """Warnings of which each event is logged at most once in ``QUIET`` seconds."""

    __slots__ = ("_log", "_suppressed", "_until")

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._until: dict[tuple[str, object], float] = {}
        self._suppressed: dict[tuple[str, object], int] = {}

    def warning(self, event: str, source: object = None, /, **facts: object) -> None:
        """Log ``event``, with how often it was left out since its last line.

        Args:
            event: Its name.
            source: Whose it is, where each of some sources deserves a line of its own;
                beyond ``MOST_SOURCES`` of them they share one.
            facts: The values of the line.
        """
        more = self.take(event, source)
        if more is not None:
            self._log.warning(event, **facts, **more)

    def take(self, event: str, source: object = None, /) -> dict[str, int] | None:
        """Return what else a line that is about to be logged has to say.

        For a line whose facts take a while to be found out; the arguments are those of
        :meth:`warning`.

        Returns:
            None if it is to be left out; it is counted then.
        """
        now = asyncio.get_running_loop().time()
        key = self._key(event, source, now)
        if now < self._until.get(key, 0.0):
            self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return None
        self._until[key] = now + QUIET
        suppressed = self._suppressed.pop(key, 0)
        return {"suppressed": suppressed} if suppressed else {}

    def _key(self, event: str, source: object, now: float) -> tuple[str, object]:
        key = (event, source)
        if source is not None and key not in self._until:
            if len(self._until) >= MOST_SOURCES:
                self._forget(now)
            if len(self._until) >= MOST_SOURCES:
                return event, None
        return key

    def _forget(self, now: float) -> None:
        """Make room; the next line of all sources counts what was left out."""
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]
            everybody = (key[0], None)
            left_out = self._suppressed.pop(key, 0)
            self._suppressed[everybody] = self._suppressed.get(everybody, 0) + left_out
