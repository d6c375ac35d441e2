"""One log line for a burst of alike events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ssmtunneld.log import EventLog

# A client that is refused usually tries again within a second, hundreds do at once; an
# operator needs the first line, and later how many there were.
QUIET: Final = 10.0


class Bursts:
    """Warnings of which each event is logged at most once in ``QUIET`` seconds."""

    __slots__ = ("_log", "_suppressed", "_until")

    def __init__(self, log: EventLog) -> None:
        self._log = log
        # By event name: as many as the source has, not as many as clients cause.
        self._until: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def warning(self, event: str, **facts: object) -> None:
        """Log ``event``, with how often it was left out since its last line."""
        now = asyncio.get_running_loop().time()
        if now < self._until.get(event, 0.0):
            self._suppressed[event] = self._suppressed.get(event, 0) + 1
            return
        self._until[event] = now + QUIET
        if suppressed := self._suppressed.pop(event, 0):
            facts["suppressed"] = suppressed
        self._log.warning(event, **facts)
