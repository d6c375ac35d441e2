"""How old a session may become: configured, told by the service, or learned."""

from typing import Final

SHORTEST: Final = 60.0
"""Seconds. The service's limits are whole minutes (protocol 1.8)."""
LIKENESS: Final = 0.05
"""How much two ages may differ, as a part of the greater, to be the same limit."""


class Lifespan:
    """The least of what is known of a session's maximum age, in seconds.

    The service tells it to who may call DescribeSessions. Where it does not, two
    sessions in a row that the service ended at about the same age, although they were
    kept alive, say the same.

    Args:
        configured: ``max_session_age``, or ``None``.
    """

    __slots__ = ("_configured", "_last_age", "_learned", "_told")

    def __init__(self, configured: float | None = None) -> None:
        self._configured = configured
        self._told: float | None = None
        self._learned: float | None = None
        self._last_age: float | None = None

    @property
    def limit(self) -> float | None:
        """Seconds, or ``None`` if there is no limit that we know of.

        Never below the shortest that the service has, whatever is configured: sessions
        would have to be replaced before they are ready.
        """
        ages = (self._configured, self._told, self._learned)
        known = [age for age in ages if age is not None]
        return max(SHORTEST, min(known)) if known else None

    def tell(self, age: float) -> None:
        """Take the service's own word for it."""
        self._told = age

    def note_end(self, age: float) -> None:
        """Learn from a session that the service ended at ``age``."""
        if age < SHORTEST:
            return
        last = self._last_age
        self._last_age = age
        if last is not None and abs(last - age) <= LIKENESS * max(last, age):
            self._learned = min(last, age)
