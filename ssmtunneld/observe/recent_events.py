"""The last lines of the log, for whoever looks at the status page."""

from collections import deque
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from ssmtunneld.base.record import Record

LENGTH: Final = 200
"""Lines that are kept. With the two bounds below that is 1.7 MB at the very most, and
40 KB in practice."""
FACTS: Final = 16
"""Facts of one line that are kept; no event has more."""
TEXT: Final = 500
"""Characters of one fact that are kept."""

_LEVELS: Final = frozenset({"info", "warning", "error"})


class RecentEvent(Record):
    """One line of the log."""

    number: int
    """Counted from 1 since the daemon's start."""
    time: str
    """ISO 8601, in UTC."""
    level: str
    """Info, warning or error."""
    event: str
    """Its name, see docs/events.md."""
    tunnel: str | None
    """The tunnel that it concerns, if it does one."""
    facts: dict[str, str]
    """The remaining fields of the event."""


def _now() -> datetime:
    return datetime.now(UTC)


class RecentEvents:
    """Keeps the last lines; a processor for structlog. May be used by any thread.

    Args:
        visible: Makes a text harmless to look at.
        now: Tells the time.
    """

    def __init__(
        self, visible: Callable[[str], str], now: Callable[[], datetime] = _now
    ) -> None:
        self._visible = visible
        self._now = now
        self._numbers = count(1)
        self._newest = 0
        self._events: deque[RecentEvent] = deque(maxlen=LENGTH)

    def __call__(
        self, _: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Keep a line that an operator wants to know; pass every line on."""
        if method in _LEVELS:
            self._events.append(self._record(method, event))
        return event

    @property
    def newest(self) -> int:
        """The number of the last line, 0 before the first."""
        return self._newest

    def since(self, number: int = 0) -> list[RecentEvent]:
        """Return the lines after line ``number``, oldest first."""
        return [event for event in list(self._events) if event.number > number]

    def clear(self) -> None:
        """Forget all lines; numbers go on."""
        self._events.clear()

    def _record(self, method: str, event: MutableMapping[str, Any]) -> RecentEvent:
        facts = {k: v for k, v in event.items() if k not in {"event", "level"}}
        tunnel = facts.pop("tunnel", None)
        shown = list(facts.items())[:FACTS]
        self._newest = number = next(self._numbers)
        return RecentEvent(
            number=number,
            time=self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            level=method,
            event=str(event.get("event", "")),
            tunnel=None if tunnel is None else self._text(tunnel),
            facts={self._text(key): self._text(value) for key, value in shown},
        )

    def _text(self, value: object) -> str:
        text = str(value)
        return self._visible(text if len(text) <= TEXT else f"{text[: TEXT - 1]}…")
